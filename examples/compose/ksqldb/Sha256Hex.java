package tidegate;

import io.confluent.ksql.function.udf.Udf;
import io.confluent.ksql.function.udf.UdfDescription;
import io.confluent.ksql.function.udf.UdfParameter;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

@UdfDescription(name = "sha256_hex", description = "The hash of a text as 64 hexadecimal digits")
public class Sha256Hex {
  @Udf(description = "SHA-256 of the text's UTF-8; null where it is null")
  public String hash(@UdfParameter("text") final String text) throws NoSuchAlgorithmException {
    if (text == null) {
      return null;
    }
    byte[] hash = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
    return String.format("%064x", new BigInteger(1, hash));
  }
}
