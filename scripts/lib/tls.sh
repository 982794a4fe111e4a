# A certificate authority of our own, a certificate for `localhost` (or for the address that
# containers reach), and a second authority that signed nothing. Sourced after common.sh.

make_tls() {
	local dir=$1 tls=$1/tls name
	mkdir "$tls"
	cat >"$tls/openssl.cnf" <<-CNF
		[req]
		distinguished_name = dn
		prompt = no
		[dn]
		CN = tidegate test
		[authority]
		basicConstraints = critical, CA:TRUE
		keyUsage = critical, keyCertSign, cRLSign
		subjectKeyIdentifier = hash
		[server]
		basicConstraints = critical, CA:FALSE
		subjectAltName = $([ "$(name_of "$dir")" = localhost ] && echo DNS || echo IP):$(name_of "$dir")
		extendedKeyUsage = serverAuth
	CNF
	(
		cd "$tls"
		for name in ca other-ca; do
			openssl req -x509 -config openssl.cnf -extensions authority -newkey rsa:2048 -nodes \
				-subj "/CN=tidegate test $name" -days 30 -keyout "$name.key" -out "$name.pem"
		done
		openssl req -new -config openssl.cnf -newkey rsa:2048 -nodes -subj /CN=localhost \
			-keyout server.key -out server.csr
		openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
			-extfile openssl.cnf -extensions server -out server.pem
	) >"$tls/openssl.log" 2>&1 || { show_log "$tls/openssl.log"; return 1; }
	cat >>"$dir/env" <<-ENV
		TIDEGATE_TEST_CA=$tls/ca.pem
		TIDEGATE_TEST_OTHER_CA=$tls/other-ca.pem
	ENV
}
