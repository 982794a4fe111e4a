mod avro;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use proptest::prelude::*;

use super::*;
use crate::config::{Column, ColumnType, Epoch, KeyFormat, Nesting, Window, WindowColumns};
use crate::record::{Op, TopicPartition};

use RejectClass::{DuplicateField, Encoding, Malformed, MissingField, OutOfRange, WrongType};

fn column(name: &str, kind: ColumnType) -> Column {
    Column { path: Some(name.to_owned()), ..Column::new(name.to_lowercase(), kind) }
}

fn schema(key: Option<KeyFormat>, keys: Vec<Column>, values: Vec<Column>) -> Schema {
    let key_columns = keys.len();
    let columns = keys.into_iter().chain(values).collect();
    Schema { key_format: key.unwrap_or(KeyFormat::None), ..Schema::json(columns, key_columns) }
}

fn stream(values: Vec<Column>) -> Decoder {
    Decoder::new(&schema(None, vec![], values), false, false, false)
}

type Record<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

fn batch(records: &[Record<'_>]) -> RawBatch {
    let mut raw = RawBatch::new(TopicPartition::new("t", 3), 100);
    for (index, (key, value)) in records.iter().enumerate() {
        raw.push(100 + index as i64, 1000 + index as i64, *key, *value, []);
    }
    raw
}

fn values(decoder: &mut Decoder, values: &[&[u8]]) -> Batch {
    let records: Vec<Record<'_>> = values.iter().map(|value| (None, Some(*value))).collect();
    decoder.decode(&batch(&records), 0)
}

/// The value as text, or the class of the reject.
fn shown(batch: &Batch, column: usize) -> Result<String, RejectClass> {
    if let Some(reject) = batch.rejects.first() {
        assert!(batch.num_rows() == 0 && !reject.reason.is_empty());
        return Err(reject.class);
    }
    let array = batch.rows.column(column);
    if array.is_null(0) {
        return Ok("null".to_owned());
    }
    Ok(match array.data_type() {
        arrow::datatypes::DataType::Utf8 => array.as_string::<i32>().value(0).to_owned(),
        arrow::datatypes::DataType::Binary => {
            std::string::String::from_utf8_lossy(array.as_binary::<i32>().value(0)).into_owned()
        }
        arrow::datatypes::DataType::Boolean => array.as_boolean().value(0).to_string(),
        arrow::datatypes::DataType::Int32 => array.as_primitive::<Int32Type>().value(0).to_string(),
        arrow::datatypes::DataType::Int64 => array.as_primitive::<Int64Type>().value(0).to_string(),
        arrow::datatypes::DataType::Float64 => {
            array.as_primitive::<Float64Type>().value(0).to_string()
        }
        arrow::datatypes::DataType::Date32 => {
            array.as_primitive::<Date32Type>().value(0).to_string()
        }
        arrow::datatypes::DataType::Decimal128(..) => {
            array.as_primitive::<Decimal128Type>().value_as_string(0)
        }
        _ => array.as_primitive::<TimestampMicrosecondType>().value(0).to_string(),
    })
}

const DECIMAL: ColumnType = ColumnType::Decimal { precision: 6, scale: 2 };

#[test]
fn types_of_values() {
    use ColumnType::*;
    let cases: &[(ColumnType, &str, Result<&str, RejectClass>)] = &[
        (String, r#""a""#, Ok("a")),
        (String, r#""""#, Ok("")),
        (
            String,
            r#""a\n\"\\\/\b\f\r\té\u00e9\ud83d\ude00\u0000""#,
            Ok("a\n\"\\/\u{8}\u{c}\r\téé😀\0"),
        ),
        (String, r#""\ud83d""#, Err(Encoding)),
        (String, r#""\ude00\ud83d""#, Err(Encoding)),
        (String, r#""\ud83d\u0041""#, Err(Encoding)),
        (String, r#""\udc00\udc00""#, Err(Encoding)),
        (String, r#""\ud83""#, Err(Malformed)),
        (String, r#""\x""#, Err(Malformed)),
        (String, "\"a\nb\"", Err(Malformed)),
        (String, "5", Err(WrongType)),
        (String, "true", Err(WrongType)),
        (String, r#"{"a":1}"#, Err(WrongType)),
        (String, "null", Ok("null")),
        (String, "nul", Err(Malformed)),
        (Int, "2147483647", Ok("2147483647")),
        (Int, "-2147483649", Err(OutOfRange)),
        (Int, r#""5""#, Err(WrongType)),
        (Long, "-9223372036854775808", Ok("-9223372036854775808")),
        (Long, "9223372036854775808", Err(OutOfRange)),
        (Long, "1.0", Err(WrongType)),
        (Long, "1e2", Err(WrongType)),
        (Long, "01", Err(Malformed)),
        (Long, "-", Err(Malformed)),
        (Long, "1.", Err(Malformed)),
        (Long, "5x", Err(Malformed)),
        (Double, "5", Ok("5")),
        (Double, "339.47", Ok("339.47")),
        (Double, "1e-7", Ok("0.0000001")),
        (Double, "1e999", Err(OutOfRange)),
        (Double, "NaN", Err(Malformed)),
        (Double, r#""5""#, Err(WrongType)),
        (Boolean, "true", Ok("true")),
        (Boolean, "false", Ok("false")),
        (Boolean, "tru", Err(Malformed)),
        (Boolean, "1", Err(WrongType)),
        (Bytes, r#""QUI=""#, Ok("AB")),
        (Bytes, r#""""#, Ok("")),
        (Bytes, r#""A!""#, Err(WrongType)),
        (Bytes, "5", Err(WrongType)),
        (DECIMAL, "339.47", Ok("339.47")),
        (DECIMAL, "-3", Ok("-3.00")),
        (DECIMAL, "1.2300", Ok("1.23")),
        (DECIMAL, "1.5e3", Ok("1500.00")),
        (DECIMAL, r#""12.5""#, Ok("12.50")),
        (DECIMAL, r#""1,5""#, Err(WrongType)),
        (DECIMAL, "0.001", Err(OutOfRange)),
        (DECIMAL, "10000", Err(OutOfRange)),
        (Timestamp, r#""1970-01-01T00:00:01.5Z""#, Ok("1500000")),
        (Timestamp, r#""1970-01-01T00:00:01\u002b00:00""#, Ok("1000000")),
        (Timestamp, "1500", Ok("1500000")),
        (Timestamp, "1.5", Err(WrongType)),
        (Timestamp, "9999999999999999", Err(OutOfRange)),
        (Timestamp, r#""soon""#, Err(WrongType)),
        (Date, r#""1970-01-02""#, Ok("1")),
        (Date, "-1", Ok("-1")),
        (Date, r#""1970-02-30""#, Err(OutOfRange)),
        (Date, r#""1970-01-02T00:00:00Z""#, Err(WrongType)),
        (
            Json,
            r#"{"b": [1, 2.50, "\ud83d"],"a":1,"a":1e999}"#,
            Ok(r#"{"b": [1, 2.50, "\ud83d"],"a":1,"a":1e999}"#),
        ),
        (Json, "1.10", Ok("1.10")),
        (Json, "null", Ok("null")),
        (Json, "[1,]", Err(Malformed)),
        (Json, "", Err(Malformed)),
    ];
    for (kind, text, expected) in cases {
        for (before, after) in
            [("{\"V\":", "}"), (" {\t\"V\" : ", "\r\n} "), ("{\"u\":[{}],\"V\":", ",\"w\":0}")]
        {
            let message = format!("{before}{text}{after}");
            let found = values(&mut stream(vec![column("V", *kind)]), &[message.as_bytes()]);
            assert_eq!(
                shown(&found, 0).as_deref().map_err(|class| *class),
                *expected,
                "{kind:?} {message}"
            );
        }
    }
}

#[test]
fn odd_bytes() {
    let deep = |open: &str, n: usize| format!("{{\"u\":{}", open.repeat(n)).into_bytes();
    let closed = format!("{{\"u\":{}1{}}}", "[".repeat(128), "]".repeat(128)).into_bytes();
    let too_deep = format!("{{\"u\":{}1{}}}", "[".repeat(129), "]".repeat(129)).into_bytes();
    let cases: Vec<(Vec<u8>, Option<RejectClass>)> = vec![
        (b"".to_vec(), Some(Malformed)),
        (b" ".to_vec(), Some(Malformed)),
        (b"\0".to_vec(), Some(Malformed)),
        (b"null".to_vec(), Some(WrongType)),
        (b"[]".to_vec(), Some(WrongType)),
        (b"\"x\"".to_vec(), Some(WrongType)),
        (b"5".to_vec(), Some(WrongType)),
        (b"{}".to_vec(), None),
        (b"{".to_vec(), Some(Malformed)),
        (b"{}}".to_vec(), Some(Malformed)),
        (b"{} {}".to_vec(), Some(Malformed)),
        (b"{\"S\":\"a\",}".to_vec(), Some(Malformed)),
        (b"{\"S\" \"a\"}".to_vec(), Some(Malformed)),
        (b"{S:1}".to_vec(), Some(Malformed)),
        (b"{\"S".to_vec(), Some(Malformed)),
        (b"{\"S\":\"abcdefghijklmnop".to_vec(), Some(Malformed)),
        (b"\xEF\xBB\xBF{}".to_vec(), Some(Malformed)),
        (b"{\"S\":\"\xC3\"}".to_vec(), Some(Encoding)),
        (b"{\"S\":\"\xC3".to_vec(), Some(Encoding)),
        (b"{\"S\":\"\xED\xA0\x80\"}".to_vec(), Some(Encoding)),
        (b"{\"S\":\"a\",\"S\":\"a\"}".to_vec(), Some(DuplicateField)),
        (b"{\"S\":\"a\",\"\\u0053\":\"a\"}".to_vec(), Some(DuplicateField)),
        (b"{\"u\":1,\"u\":2}".to_vec(), None),
        (b"{\"O\":{\"A\":1,\"A\":1}}".to_vec(), Some(DuplicateField)),
        (b"{\"O\":{\"A\":1},\"O\":{\"B\":1}}".to_vec(), Some(DuplicateField)),
        (b"{\"O\":{\"A\":1},\"A\":2}".to_vec(), None),
        (b"{\"O\":\"x\"}".to_vec(), Some(WrongType)),
        (b"{\"O\":[{\"A\":1}]}".to_vec(), Some(WrongType)),
        (b"{\"O\":null}".to_vec(), None),
        (b"{\"O\":nul}".to_vec(), Some(Malformed)),
        (b"{\"\\ud800\":1}".to_vec(), Some(Encoding)),
        (b"{\"u\":\"\\ud800\"}".to_vec(), None),
        (deep("[", 1_000_000), Some(Malformed)),
        (deep("{\"u\":", 1_000_000), Some(Malformed)),
        (deep("[", 100), Some(Malformed)),
        (closed, None),
        (too_deep, Some(Malformed)),
        (format!("{{\"u\":{}}}", "9".repeat(100_000)).into_bytes(), None),
    ];
    let long = ColumnType::Long;
    let columns = vec![column("S", ColumnType::String), column("O.A", long), column("O.B", long)];
    let mut decoder = stream(columns);
    for (bytes, expected) in &cases {
        let found = values(&mut decoder, &[bytes]);
        let class = found.rejects.first().map(|reject| reject.class);
        let text = std::string::String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        assert_eq!(class, *expected, "{text}: {:?}", found.rejects.first().map(|r| &r.reason));
        assert_eq!(found.num_rows() + found.rejects.len(), 1);
    }
    let all: Vec<&[u8]> = cases.iter().map(|(bytes, _)| bytes.as_slice()).collect();
    let found = values(&mut decoder, &all);
    assert_eq!(found.num_rows(), cases.iter().filter(|(_, class)| class.is_none()).count());
}

#[test]
fn reasons_name_the_field() {
    let columns = vec![column("O.AMOUNT", DECIMAL), column("S", ColumnType::String)];
    let mut decoder = stream(columns);
    let long = format!("{{\"S\":[\"{}\"]}}", "z".repeat(500));
    let found = values(
        &mut decoder,
        &[br#"{"O":{"AMOUNT":"abc"}}"#, br#"{"O":7}"#, br#"{"O":{"AMOUNT":1]"#, long.as_bytes()],
    );
    let reasons: Vec<_> = found.rejects.iter().map(|reject| reject.reason.as_str()).collect();
    assert_eq!(reasons[0], r#"O.AMOUNT: found "abc", expected a decimal(6,2)"#);
    assert_eq!(reasons[1], "O: found 7, expected an object");
    assert_eq!(reasons[2], "not JSON at byte 16: expected `,` or `}`, found `]`");
    assert!(reasons[3].starts_with("S: found [\"zzz") && reasons[3].len() < 120);
}

#[test]
fn required_columns() {
    let mut required = column("O.A", ColumnType::Long);
    required.required = true;
    let mut decoder = stream(vec![required, column("B", ColumnType::Long)]);
    let messages: [&[u8]; 5] = [
        br#"{"O":{"A":1}}"#,
        br#"{"O":{"A":null}}"#,
        br#"{"O":{}}"#,
        br#"{"O":null,"B":1}"#,
        br#"{"B":1}"#,
    ];
    let found = values(&mut decoder, &messages);
    assert_eq!(found.num_rows(), 1);
    assert!(found.rejects.iter().all(|reject| reject.class == MissingField));
    assert_eq!(found.rejects[0].reason, "O.A: no value, expected an integer of 64 bits");
}

#[test]
fn one_field_for_several_columns() {
    let columns = vec![
        column("O", ColumnType::Json),
        column("O.A", ColumnType::Long),
        column("T", ColumnType::String),
        Column { name: "t_time".into(), ..column("T", ColumnType::Timestamp) },
    ];
    let message = br#"{"O":{"A":1,"x":2},"T":"1970-01-01T00:00:00Z"}"#;
    let found = values(&mut stream(columns), &[message, b"{\"O\":null}", b"{\"O\":7}"]);
    assert_eq!(found.num_rows(), 2);
    assert_eq!(found.rows.column(0).as_string::<i32>().value(0), r#"{"A":1,"x":2}"#);
    assert_eq!(found.rows.column(1).as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(found.rows.column(2).as_string::<i32>().value(0), "1970-01-01T00:00:00Z");
    assert_eq!(found.rows.column(3).as_primitive::<TimestampMicrosecondType>().value(0), 0);
    assert!(found.rows.columns().iter().all(|column| column.is_null(1)));
    assert_eq!(found.rejects[0].class, WrongType);
}

#[test]
fn field_order_may_change() {
    let names = ["A", "B", "C", "D", "a\"\\b"];
    let columns = names.iter().map(|name| column(name, ColumnType::Long)).collect();
    let mut decoder = stream(columns);
    let orders = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [2, 0, 4, 1, 3]];
    for skip in 0..6 {
        for order in orders {
            let kept = order.iter().filter(|index| **index != skip);
            let members = kept.map(|index| {
                let name = serde_json::to_string(names[*index]).unwrap();
                format!("\"junk{index}\":{{}},{name}:{index}")
            });
            let text = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
            let found = values(&mut decoder, &[text.as_bytes()]);
            assert!(found.rejects.is_empty(), "{}", found.rejects[0].reason);
            for index in 0..5 {
                let column = found.rows.column(index).as_primitive::<Int64Type>();
                let expected = (index != skip).then_some(index as i64);
                assert_eq!(column.is_valid(0).then(|| column.value(0)), expected);
            }
        }
    }
}

#[test]
fn keys_of_format_string() {
    use ColumnType::*;
    let cases: &[(ColumnType, &[u8], Result<&str, RejectClass>)] = &[
        (String, b"TXN-1", Ok("TXN-1")),
        (String, b"", Ok("")),
        (String, b"\xFF", Err(Encoding)),
        (Int, b"7", Ok("7")),
        (Int, b"007", Err(WrongType)),
        (Int, b"3000000000", Err(OutOfRange)),
        (Long, b"-7", Ok("-7")),
        (Long, b" 7", Err(WrongType)),
        (Double, b"1.5", Ok("1.5")),
        (Boolean, b"true", Ok("true")),
        (Boolean, b"yes", Err(WrongType)),
        (DECIMAL, b"1.5", Ok("1.50")),
        (Timestamp, b"1970-01-01T00:00:01Z", Ok("1000000")),
        (Timestamp, b"1000", Ok("1000000")),
        (Date, b"1970-01-02", Ok("1")),
        (Json, b"{\"a\": 1}", Ok("{\"a\": 1}")),
        (Json, b"{\"a\": 1", Err(Malformed)),
    ];
    for (kind, key, expected) in cases {
        let schema = schema(Some(KeyFormat::String), vec![column("K", *kind)], vec![]);
        let mut decoder = Decoder::new(&schema, true, false, false);
        let found = decoder.decode(&batch(&[(Some(key), Some(b"{}"))]), 0);
        let shown = shown(&found, 0);
        assert_eq!(shown.as_deref().map_err(|class| *class), *expected, "{kind:?} {key:?}");
    }
}

#[test]
fn keys_of_format_json() {
    use ColumnType::*;
    let one = schema(Some(KeyFormat::Json), vec![column("K.ID", Long)], vec![]);
    let mut decoder = Decoder::new(&one, true, false, false);
    let cases: &[(&[u8], Result<&str, RejectClass>)] = &[
        (b"7", Ok("7")),
        (b" 7 ", Ok("7")),
        (b"{\"K\":{\"ID\":7}}", Ok("7")),
        (b"{\"K\":{}}", Err(MissingField)),
        (b"{\"K\":7}", Err(WrongType)),
        (b"null", Err(MissingField)),
        (b"\"7\"", Err(WrongType)),
        (b"7 7", Err(Malformed)),
        (b"", Err(Malformed)),
    ];
    for (key, expected) in cases {
        for value in [Some(&b"{}"[..]), None] {
            let found = decoder.decode(&batch(&[(Some(key), value)]), 0);
            assert_eq!(shown(&found, 0).as_deref().map_err(|class| *class), *expected, "{key:?}");
        }
    }
    let found = decoder.decode(&batch(&[(None, Some(b"{}"))]), 0);
    assert_eq!(shown(&found, 0), Err(MissingField));
    let two = schema(Some(KeyFormat::Json), vec![column("A", Long), column("B", String)], vec![]);
    let mut decoder = Decoder::new(&two, true, false, false);
    let found = decoder.decode(&batch(&[(Some(b"7"), None)]), 0);
    assert_eq!(shown(&found, 0), Err(WrongType));
}

/// Bytes from hexadecimal digits; blanks do not count.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// As Kafka's `IntegerSerializer`, `LongSerializer` and `DoubleSerializer` write them.
#[test]
fn keys_that_are_numbers_in_binary() {
    use ColumnType::*;
    let cases: &[(KeyFormat, ColumnType, &str, Result<&str, RejectClass>)] = &[
        (KeyFormat::Int, Int, "00 00 00 07", Ok("7")),
        (KeyFormat::Int, Int, "ff ff ff fe", Ok("-2")),
        (KeyFormat::Int, Int, "80 00 00 00", Ok("-2147483648")),
        (KeyFormat::Int, String, "7f ff ff ff", Ok("2147483647")),
        (KeyFormat::Int, Long, "00 00 00 07", Ok("7")),
        (KeyFormat::Int, Int, "00 00 07", Err(WrongType)),
        (KeyFormat::Int, Int, "00 00 00 00 07", Err(WrongType)),
        (KeyFormat::Int, Int, "", Err(WrongType)),
        (KeyFormat::Long, Long, "00 00 01 99 de 69 1c a0", Ok("1760373054624")),
        (KeyFormat::Long, Long, "ff ff ff ff ff ff ff ff", Ok("-1")),
        (KeyFormat::Long, Int, "00 00 01 99 de 69 1c a0", Err(OutOfRange)),
        (KeyFormat::Long, Timestamp, "00 00 00 00 00 00 03 e8", Ok("1000000")),
        (KeyFormat::Long, Long, "00 00 00 07", Err(WrongType)),
        (KeyFormat::Double, Double, "40 09 21 fb 54 44 2d 18", Ok("3.141592653589793")),
        (KeyFormat::Double, Double, "80 00 00 00 00 00 00 00", Ok("0")),
        (KeyFormat::Double, Double, "7f f8 00 00 00 00 00 00", Err(OutOfRange)),
        (KeyFormat::Double, DECIMAL, "3f f8 00 00 00 00 00 00", Ok("1.50")),
        (KeyFormat::Double, String, "3f f8 00 00 00 00 00 00", Ok("1.5")),
        (KeyFormat::String, Bytes, "41 42", Ok("AB")),
    ];
    for (format, kind, key, expected) in cases {
        let schema = schema(Some(*format), vec![column("K", *kind)], vec![]);
        let key = bytes(key);
        let found = Decoder::new(&schema, true, false, false)
            .decode(&batch(&[(Some(&key), Some(b"{}"))]), 0);
        let shown = shown(&found, 0);
        assert_eq!(shown.as_deref().map_err(|class| *class), *expected, "{format:?} {key:?}");
    }
}

/// 2025-10-13T16:30:54.624Z and five minutes later, as Kafka Streams puts them behind a key.
#[test]
fn keys_with_windows() {
    const START: &str = "00 00 01 99 de 69 1c a0";
    const END: &str = "00 00 01 99 de 6d b0 80";
    let text = "70 75 72 63 68 61 73 65"; // purchase
    let at = |millis: i64| Ok((millis * 1000).to_string());
    let (start, end) = (1_760_373_054_624, 1_760_373_354_624);
    type Shown = Result<std::string::String, RejectClass>;
    let cases: Vec<(Window, Option<i64>, std::string::String, [Shown; 3])> = vec![
        (
            Window::Time,
            None,
            format!("{text} {START}"),
            [Ok("purchase".into()), at(start), Ok("null".into())],
        ),
        (
            Window::Time,
            Some(300_000),
            format!("{text} {START}"),
            [Ok("purchase".into()), at(start), at(end)],
        ),
        (
            Window::Store,
            None,
            format!("{text} {START} 00 00 00 09"),
            [Ok("purchase".into()), at(start), Ok("null".into())],
        ),
        // The end comes first.
        (
            Window::Session,
            None,
            format!("{text} {END} {START}"),
            [Ok("purchase".into()), at(start), at(end)],
        ),
        (
            Window::Session,
            None,
            format!("{text} {START} {END}"),
            [Err(OutOfRange), Err(OutOfRange), Err(OutOfRange)],
        ),
        (
            Window::Time,
            None,
            START.to_owned(),
            [Ok(std::string::String::new()), at(start), Ok("null".into())],
        ),
        (
            Window::Time,
            None,
            "00 00 01".to_owned(),
            [Err(WrongType), Err(WrongType), Err(WrongType)],
        ),
        (Window::Session, None, START.to_owned(), [Err(WrongType), Err(WrongType), Err(WrongType)]),
        (
            Window::Time,
            None,
            format!("{text} 7f ff ff ff ff ff ff ff"),
            [Err(OutOfRange), Err(OutOfRange), Err(OutOfRange)],
        ),
        (
            Window::Time,
            None,
            format!("{text} ff ff ff ff ff ff ff ff"),
            [Err(OutOfRange), Err(OutOfRange), Err(OutOfRange)],
        ),
    ];
    for (kind, size_ms, key, expected) in cases {
        let has_end = kind == Window::Session || size_ms.is_some();
        let window = WindowColumns { kind, start: 1, count: 1 + usize::from(has_end), size_ms };
        let bounds = ["WINDOW_START", "WINDOW_END"].map(|name| column(name, ColumnType::Timestamp));
        // Without an end its place is a value's, and stays null.
        let schema = Schema {
            window: Some(window),
            ..schema(
                Some(KeyFormat::String),
                vec![column("K", ColumnType::String)],
                bounds.to_vec(),
            )
        };
        let key = bytes(&key);
        let found = Decoder::new(&schema, true, false, false)
            .decode(&batch(&[(Some(&key), Some(b"{}"))]), 0);
        let found = [0, 1, 2].map(|column| shown(&found, column));
        assert_eq!(found, expected, "{kind:?} {key:?}");
    }
}

#[test]
fn a_windowed_json_key_of_several_columns() {
    let window = WindowColumns { kind: Window::Time, start: 2, count: 1, size_ms: None };
    let columns = vec![
        column("USER", ColumnType::String),
        column("TYPE", ColumnType::String),
        column("WINDOW_START", ColumnType::Long),
        column("TOTAL", ColumnType::Long),
    ];
    let schema = Schema { window: Some(window), ..Schema::json(columns, 3) };
    let mut key = br#"{"TYPE":"refund","USER":"U1"}"#.to_vec();
    key.extend(1000i64.to_be_bytes());
    let raw = batch(&[(Some(&key), Some(b"{\"TOTAL\":5}")), (Some(&key), None)]);
    let found = Decoder::new(&schema, true, false, false).decode(&raw, 0);
    assert_eq!([0, 1, 2, 3].map(|at| shown(&found, at).unwrap()), ["U1", "refund", "1000", "5"]);
    assert_eq!((found.op(1), found.rows.column(2).null_count()), (Op::Delete, 0));
    assert!(found.rows.column(3).is_null(1));
}

/// As Kafka Connect's `JsonConverter` writes with `schemas.enable`.
#[test]
fn envelopes_of_connect() {
    let cases: &[(&str, Result<&str, RejectClass>)] = &[
        (r#"{"schema":{"type":"struct","fields":[]},"payload":{"V":7}}"#, Ok("7")),
        (r#" {"payload" : {"V":7} , "schema":null } "#, Ok("7")),
        (r#"{"schema":{"payload":{"V":1}},"payload":{"V":7}}"#, Ok("7")),
        (r#"{"schema":null}"#, Err(Malformed)),
        (r#"{"V":7}"#, Err(Malformed)),
        (r#"{"payload":{"V":7},"payload":{"V":8}}"#, Err(Malformed)),
        (r#"{"schema":null,"payload":null}"#, Err(Malformed)),
        (r#"{"payload":7}"#, Err(WrongType)),
        (r#"{"payload":{"V":7}"#, Err(Malformed)),
        (r#"{"payload":{"V":7}} x"#, Err(Malformed)),
        ("[]", Err(Malformed)),
        ("", Err(Malformed)),
    ];
    let values_only = Schema::json(vec![column("V", ColumnType::Long)], 0);
    let schema = Schema { value_format: ValueFormat::Connect, ..values_only };
    for (value, expected) in cases {
        let found = values(&mut Decoder::new(&schema, false, false, false), &[value.as_bytes()]);
        assert_eq!(shown(&found, 0).as_deref().map_err(|class| *class), *expected, "{value}");
    }
    let columns = vec![column("K", ColumnType::Long), column("V", ColumnType::Long)];
    let schema = Schema {
        key_format: KeyFormat::Connect,
        value_format: ValueFormat::Connect,
        ..Schema::json(columns, 1)
    };
    let key = br#"{"schema":{"type":"int64"},"payload":7}"#;
    let raw = batch(&[(Some(key), Some(b"{\"schema\":null,\"payload\":null}"))]);
    let found = Decoder::new(&schema, true, false, false).decode(&raw, 0);
    assert_eq!((found.op(0), shown(&found, 0).as_deref()), (Op::Delete, Ok("7")));
}

#[test]
fn values_that_are_one_column() {
    let whole = |format, kind| Schema {
        value_format: format,
        ..Schema::json(vec![column("VALUE", kind)], 0)
    };
    for (format, kind, value, expected) in [
        (ValueFormat::String, ColumnType::String, &b"{no JSON"[..], Ok("{no JSON")),
        (ValueFormat::String, ColumnType::Long, b"-5", Ok("-5")),
        (ValueFormat::String, ColumnType::Long, b"x", Err(WrongType)),
        (ValueFormat::String, ColumnType::String, b"\xff", Err(Encoding)),
        (ValueFormat::Bytes, ColumnType::Bytes, b"\x00A", Ok("\0A")),
        (ValueFormat::Bytes, ColumnType::Bytes, b"", Ok("")),
    ] {
        let mut decoder = Decoder::new(&whole(format, kind), false, false, false);
        let found = values(&mut decoder, &[value]);
        assert_eq!(shown(&found, 0).as_deref().map_err(|class| *class), expected, "{value:?}");
    }
}

#[test]
fn what_no_column_takes_is_kept() {
    let cases = [
        (r#"{"A":1}"#, Ok("null")),
        (r#"{"A":1,"B":2}"#, Ok(r#"{"B":2}"#)),
        (
            r#"{"x\"y" : [1, {"A":5}] ,"O":{"B":"b","C":null},"A":1,"D":{}}"#,
            Ok(r#"{"x\"y":[1, {"A":5}],"O.C":null,"D":{}}"#),
        ),
        (r#"{"A":1,"B":tru}"#, Err(Malformed)),
        (r#"{"A":"x","B":2}"#, Err(WrongType)),
    ];
    let columns = vec![
        column("A", ColumnType::Long),
        column("O.B", ColumnType::String),
        column("_rest", ColumnType::Json),
    ];
    let schema = Schema { rest: true, ..Schema::json(columns, 0) };
    let mut decoder = Decoder::new(&schema, false, false, false);
    for (value, expected) in cases {
        let found = values(&mut decoder, &[value.as_bytes()]);
        assert_eq!(shown(&found, 2).as_deref().map_err(|class| *class), expected, "{value}");
    }
    // A bad record leaves nothing behind for its neighbour.
    let found = values(&mut decoder, &[br#"{"B":2,"A":"x"}"#, br#"{"A":1}"#]);
    assert!(found.rejects.len() == 1 && found.rows.column(2).is_null(0));
}

#[test]
fn times_count_in_what_the_column_says() {
    for (epoch, expected) in [
        (Epoch::Seconds, "1760373054000000"),
        (Epoch::Millis, "1760373054000"),
        (Epoch::Micros, "1760373054"),
    ] {
        let at = Column { epoch, ..column("AT", ColumnType::Timestamp) };
        let found = values(&mut stream(vec![at]), &[b"{\"AT\":1760373054}"]);
        assert_eq!(shown(&found, 0).as_deref(), Ok(expected));
    }
}

#[test]
fn tables_delete_and_streams_do_not() {
    let long = ColumnType::Long;
    let mut value = column("V", long);
    value.required = true;
    let schema = schema(Some(KeyFormat::String), vec![column("K", long)], vec![value]);
    let raw = batch(&[
        (Some(b"1"), Some(b"{\"V\":5}")),
        (Some(b"1"), None),
        (None, None),
        (Some(b"2"), Some(b"{}")),
    ]);
    let found = Decoder::new(&schema, true, true, false).decode(&raw, 0);
    assert_eq!((found.op(0), found.op(1), found.num_rows()), (Op::Upsert, Op::Delete, 2));
    assert!(found.rows.column(0).null_count() == 0 && found.rows.column(1).is_null(1));
    assert_eq!(found.rejects.iter().map(|r| r.class).collect::<Vec<_>>(), [MissingField; 2]);
    assert_eq!(found.keys.as_ref().map(|keys| (keys.len(), keys.value(1))), Some((2, &b"1"[..])));
    let found = Decoder::new(&schema, false, false, false).decode(&raw, 0);
    assert!(found.deletes.is_none() && found.keys.is_none());
    let classes: Vec<_> = found.rejects.iter().map(|reject| reject.class).collect();
    assert_eq!(classes, [Malformed, MissingField, MissingField]);
    assert_eq!(found.rejects[0].reason, "the value is null");
}

#[test]
fn ranges_offsets_times_keys_and_headers() {
    let mut raw = RawBatch::new(TopicPartition::new("t", 0), 5);
    raw.push(6, 10, Some(b"k"), Some(b"{\"V\":1}"), []);
    raw.push(8, -1, None, Some(b"{\"V\":2}"), [("a\"", Some(&b"hi"[..])), ("b", None)]);
    raw.push(9, 12, None, Some(b"oops"), [("c", None)]);
    raw.range.end = 20;
    let schema = schema(None, vec![], vec![column("V", ColumnType::Long)]);
    let mut decoder = Decoder::new(&schema, false, true, true);
    let found = decoder.decode(&raw, 0);
    assert_eq!((found.range, found.payload_bytes), (OffsetRange::new(5, 20), 19));
    assert_eq!(found.offsets.values(), &[6, 8]);
    assert!(found.timestamps.value(0) == 10 && found.timestamps.is_null(1));
    let keys = found.keys.as_ref().unwrap();
    assert!(keys.value(0) == b"k" && keys.is_null(1));
    let headers = found.headers.as_ref().unwrap();
    assert_eq!((headers.value(0), headers.value(1)), ("[]", r#"[["a\"","aGk="],["b",null]]"#));
    let reject = &found.rejects[0];
    assert_eq!((reject.offset, reject.timestamp_ms, reject.headers.len()), (9, 12, 1));
    assert_eq!(reject.value.as_deref(), Some(&b"oops"[..]));

    let found = decoder.decode(&raw, 7);
    assert_eq!((found.range, found.payload_bytes), (OffsetRange::new(7, 20), 11));
    assert_eq!(found.offsets.values(), &[8]);
    let found = decoder.decode(&raw, 30);
    assert_eq!((found.range, found.num_rows()), (OffsetRange::new(20, 20), 0));
}

#[test]
fn a_huge_row_does_not_size_the_next_batch() {
    let mut decoder = stream(vec![column("S", ColumnType::String), column("T", ColumnType::Json)]);
    let huge = format!("{{\"S\":\"{}\",\"T\":[]}}", "x".repeat(10_000_000));
    values(&mut decoder, &[huge.as_bytes()]);
    let many = vec![&b"{\"S\":\"a\",\"T\":1}"[..]; 50_000];
    let found = values(&mut decoder, &many);
    assert!(found.size() < 4_000_000, "{} bytes held", found.size());
}

/// Every row of a batch as JSON.
fn spelled(decoder: &Decoder, kinds: &[ColumnType], batch: &Batch) -> Vec<String> {
    let row = |row: usize| {
        let mut out = Vec::new();
        for ((kind, array), field) in
            kinds.iter().zip(batch.rows.columns()).zip(decoder.schema.fields())
        {
            out.extend(format!("{}=", field.name()).bytes());
            crate::json::write(&mut out, *kind, array, row).unwrap();
            out.push(b' ');
        }
        std::string::String::from_utf8(out).unwrap().trim_end().to_owned()
    };
    (0..batch.num_rows()).map(row).collect()
}

fn kind(text: &str) -> ColumnType {
    text.parse().unwrap()
}

#[test]
fn nested_values() {
    let kinds = [
        kind("struct<A:long,B:struct<C:string,T:timestamp>>"),
        kind("array<decimal(6,2)>"),
        kind("map<string,array<struct<X:int,Y:json>>>"),
        ColumnType::Number,
    ];
    let columns =
        ["s", "l", "m", "n"].into_iter().zip(kinds).map(|(name, kind)| column(name, kind));
    let mut decoder = stream(columns.collect());
    let good = [
        r#"{"s":{"B":{"T":1,"C":"x"},"A":5},"l":[1,null,"2.50"],"m":{"k":[{"X":1,"Y":[1]},null],"":[]},"n":1e400}"#,
        r#"{"s":{},"l":[],"m":{},"n":-0}"#,
        r#"{"s":null,"l":null,"m":null}"#,
        r#"{"s":{"B":null,"other":[{}]},"m":{"a":null}}"#,
    ];
    let expected = [
        r#"s={"A":5,"B":{"C":"x","T":"1970-01-01T00:00:00.001000Z"}} l=[1.00,null,2.50] m={"k":[{"X":1,"Y":[1]},null],"":[]} n=1e400"#,
        r#"s={"A":null,"B":null} l=[] m={} n=-0"#,
        "s=null l=null m=null n=null",
        r#"s={"A":null,"B":null} l=null m={"a":null} n=null"#,
    ];
    let bad = [
        (r#"{"s":{"A":1,"B":{"C":5}}}"#, WrongType, "s.B.C: found 5, expected a string"),
        (r#"{"s":[1]}"#, WrongType, "s: found [1], expected an object"),
        (r#"{"s":5}"#, WrongType, "s: found 5, expected an object"),
        (r#"{"s":{"A":1,"A":2}}"#, DuplicateField, "s: the field A stands twice"),
        (r#"{"l":[1,true]}"#, WrongType, "l[]: found true, expected a decimal(6,2)"),
        (r#"{"l":{"a":1}}"#, WrongType, "expected an array"),
        (r#"{"l":[1,]}"#, Malformed, "not JSON"),
        (r#"{"l":[1"#, Malformed, "not JSON"),
        (r#"{"m":{"a":[],"a":[]}}"#, DuplicateField, "m: the field a stands twice"),
        (r#"{"m":{"a":[{"X":3000000000}]}}"#, OutOfRange, "m{}[].X: found 3000000000"),
        (r#"{"n":"1"}"#, WrongType, "n: found \"1\", expected a number"),
    ];
    // Good rows come out the same whatever failed half-way before them.
    let mut messages = Vec::new();
    for (index, (text, ..)) in bad.iter().enumerate() {
        messages.extend([text.as_bytes(), good[index % good.len()].as_bytes()]);
    }
    for _ in 0..2 {
        let found = values(&mut decoder, &messages);
        let wanted: Vec<_> = (0..bad.len()).map(|index| expected[index % good.len()]).collect();
        assert_eq!(spelled(&decoder, &kinds, &found), wanted);
        assert_eq!(found.rejects.len(), bad.len());
        for (reject, (text, class, reason)) in found.rejects.iter().zip(&bad) {
            assert_eq!(reject.class, *class, "{text}");
            assert!(reject.reason.contains(reason), "{text}: {}", reject.reason);
        }
    }
}

#[test]
fn the_rest_of_what_is_nested_is_kept() {
    let kinds = [
        kind("struct<A:struct<B:int>>"),
        kind("array<struct<X:int>>"),
        kind("map<string,struct<X:int>>"),
    ];
    let names = ["O.s", "l", "m"];
    let mut columns: Vec<Column> =
        names.into_iter().zip(kinds).map(|(name, kind)| column(name, kind)).collect();
    columns.push(Column::new("_rest", ColumnType::Json));
    let schema = Schema { rest: true, ..Schema::json(columns, 0) };
    let mut decoder = Decoder::new(&schema, false, false, false);
    let message = r#"{"O":{"s":{"A":{"B":1,"q\"":2},"u":[]},"v":0},"l":[{"X":1},null,{"Y":{"Z":1}}],"m":{"k.":{"Y":1}}}"#;
    let found = values(&mut decoder, &[message.as_bytes(), br#"{"l":[{"X":2}]}"#]);
    let rest = found.rows.column(3).as_string::<i32>();
    let expected = r#"{"O.s.A.q\"":2,"O.s.u":[],"O.v":0,"l[2].Y":{"Z":1},"m.k..Y":1}"#;
    assert_eq!((rest.value(0), rest.is_null(1)), (expected, true));
}

const REFERENCE: &str = r#"{"TRANSACTION_ID": "TXN-bac5ffc7", "TIMESTAMP": "2025-10-13T16:38:28.047846Z", "USER_ID": "USER-4026", "USER_NAME": "Johnson", "PRODUCT_ID": "PROD-678", "AMOUNT": 339.47, "CURRENCY": "AUD", "TRANSACTION_TYPE": "payment", "STATUS": "pending", "LOCATION": {"CITY": "Guangzhou", "COUNTRY": "China"}, "PAYMENT_METHOD": "apple_pay", "PRODUCT_CATEGORY": "books", "QUANTITY": 5, "SHIPPING_ADDRESS": {"STREET": "1 Main Street", "ZIP": "12345", "CITY": "Perth", "COUNTRY": "Australia"}, "DEVICE_INFO": {"OS": "MacOS", "BROWSER": "Edge", "IP_ADDRESS": "4.217.181.91"}, "CUSTOMER_RATING": 3, "DISCOUNT_CODE": null, "TAX_AMOUNT": 0}"#;

#[test]
fn reference_message() {
    let inferred = infer([(None, Some(REFERENCE.as_bytes()))], &[], Nesting::Flatten).unwrap();
    let columns = inferred.columns;
    assert_eq!(columns.len(), 24);
    let mut decoder = stream(columns.clone());
    let found = values(&mut decoder, &[REFERENCE.as_bytes(); 3]);
    assert_eq!((found.num_rows(), found.rejects.len()), (3, 0));
    let message: serde_json::Value = serde_json::from_str(REFERENCE).unwrap();
    for (column, declared) in columns.iter().enumerate() {
        let pointer = format!("/{}", declared.path().replace('.', "/"));
        let expected = match (declared.kind, message.pointer(&pointer).unwrap()) {
            (ColumnType::Timestamp, _) => "1760373508047846".to_owned(),
            (_, serde_json::Value::String(text)) => text.clone(),
            (_, other) => other.to_string(),
        };
        assert_eq!(shown(&found, column), Ok(expected), "{}", declared.name);
    }
}

/// Small JSON values, nested.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[\"\\\\\u{0}-\u{1f}a]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        let name = "[SOAB\"é]{1,2}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Whether two documents mean the same, where a field that is null is as good as none.
fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Null, Number, Object};
    match (a, b) {
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Object(a), Object(b)) => {
            let mut names = a.keys().chain(b.keys());
            names.all(|name| same(a.get(name).unwrap_or(&Null), b.get(name).unwrap_or(&Null)))
        }
        (Number(a), Number(b)) => {
            // serde_json reads a double to its last bit but one.
            let close = |(a, b): (f64, f64)| {
                (a - b).abs() <= a.abs().max(f64::MIN_POSITIVE) * 4.0 * f64::EPSILON
            };
            a == b || a.as_f64().zip(b.as_f64()).is_some_and(close)
        }
        _ => a == b,
    }
}

fn mixed_columns() -> Vec<Column> {
    use ColumnType::*;
    vec![
        column("S", String),
        column("O", Json),
        column("O.A", Long),
        column("O.B", Double),
        column("A", DECIMAL),
        column("B", Timestamp),
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_are_counted(
        messages in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..64),
                "[{}\\[\\]\",:0-9eE+\\-.truefalsnSOAB\\\\ué ]{0,48}".prop_map(std::string::String::into_bytes),
                json().prop_map(|value| value.to_string().into_bytes()),
            ],
            0..24,
        ),
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..8)),
        from in 95i64..130,
    ) {
        let key_column = vec![column("K", ColumnType::Json)];
        let schema = schema(Some(KeyFormat::Json), key_column, mixed_columns());
        let records: Vec<Record<'_>> =
            messages.iter().map(|value| (key.as_deref().or(Some(b"1")), Some(value.as_slice()))).collect();
        let raw = batch(&records);
        let found = Decoder::new(&schema, true, true, true).decode(&raw, from);
        let mut offsets = found.offsets.values().to_vec();
        prop_assert!(offsets.is_sorted());
        prop_assert!(found.rejects.is_sorted_by_key(|reject| reject.offset));
        prop_assert_eq!(offsets.len(), found.num_rows());
        offsets.extend(found.rejects.iter().map(|reject| reject.offset));
        offsets.sort_unstable();
        let expected: Vec<i64> = raw.iter_from(from).map(|record| record.offset).collect();
        prop_assert_eq!(offsets, expected);
        infer(records.iter().copied(), &[], Nesting::Flatten);
        infer(records, &[], Nesting::Keep);
    }

    /// Keys and values of every format: whatever the bytes, a row or a reject.
    #[test]
    fn arbitrary_keys_never_panic(
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        format in prop::sample::select(vec![
            KeyFormat::String, KeyFormat::Int, KeyFormat::Long, KeyFormat::Double, KeyFormat::Json,
            KeyFormat::Connect,
        ]),
        kind in prop::sample::select(vec![
            ColumnType::String, ColumnType::Int, ColumnType::Long, ColumnType::Double,
            ColumnType::Bytes, ColumnType::Timestamp, ColumnType::Date, DECIMAL,
        ]),
        window in prop::sample::select(vec![Window::Time, Window::Session, Window::Store]),
        windowed in any::<bool>(),
        value_format in prop::sample::select(vec![ValueFormat::Connect, ValueFormat::String]),
    ) {
        let bounds = ["S", "E"].map(|name| column(name, ColumnType::Timestamp));
        let columns = [vec![column("K", kind)], bounds.to_vec(), vec![column("V", kind)]].concat();
        let window = WindowColumns { kind: window, start: 1, count: 2, size_ms: Some(i64::MAX) };
        let schema = Schema {
            key_format: format,
            value_format,
            window: windowed.then_some(window),
            ..Schema::json(columns, 3)
        };
        let raw = batch(&[(key.as_deref(), value.as_deref())]);
        let found = Decoder::new(&schema, true, false, false).decode(&raw, 0);
        prop_assert_eq!(found.num_rows() + found.rejects.len(), 1);
    }

    /// Good rows come out the same whatever stands between them.
    #[test]
    fn bad_neighbours_change_nothing(bad in prop::collection::vec(any::<bool>(), 1..40)) {
        let good = |n: usize| format!(r#"{{"S":"s{n}","O":{{"A":{n}}},"A":{n}.5}}"#);
        let broken = |n: usize| [
            r#"{"S":"x","O":{"A":1},"A":"no"}"#, r#"{"S":"x","O":{"A":1}"#, r#"{"S":"x","S":"y"}"#, "",
        ][n % 4].to_owned();
        let texts: Vec<_> = bad.iter().enumerate().map(|(n, bad)| if *bad { broken(n) } else { good(n) }).collect();
        let messages: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        let mut decoder = stream(mixed_columns());
        let found = values(&mut decoder, &messages);
        let alone: Vec<&[u8]> = messages.iter().zip(&bad).filter(|(_, bad)| !**bad).map(|(m, _)| *m).collect();
        prop_assert_eq!(found.rejects.len(), messages.len() - alone.len());
        prop_assert_eq!(found.rows, values(&mut decoder, &alone).rows);
    }

    /// Whatever object comes in: under the types that inference finds for it, nested or not, its row
    /// means the same, or it is rejected.
    #[test]
    fn any_document_means_the_same(messages in prop::collection::vec(json(), 1..6)) {
        let texts: Vec<_> = messages.iter().map(|it| format!("{{\"V\":{it}}}")).collect();
        let records = || texts.iter().map(|text| (None, Some(text.as_bytes())));
        for nesting in [Nesting::Keep, Nesting::Flatten] {
            let columns = infer(records(), &[], nesting).unwrap().columns;
            // Flattened, an absent object and one of nulls are the same: look at whole columns only.
            if columns.len() != 1 || columns[0].path() != "V" { continue; }
            let kind = columns[0].kind;
            let mut decoder = stream(columns);
            let raw = batch(&records().collect::<Vec<_>>());
            let found = decoder.decode(&raw, 0);
            prop_assert_eq!(found.num_rows() + found.rejects.len(), texts.len());
            let rejected: Vec<i64> = found.rejects.iter().map(|it| it.offset - 100).collect();
            let taken = (0..).zip(&messages).filter(|(at, _)| !rejected.contains(at));
            for (row, (_, message)) in taken.enumerate() {
                let mut out = Vec::new();
                crate::json::write(&mut out, kind, found.rows.column(0), row).unwrap();
                let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
                prop_assert!(same(message, &found), "{message} became {found} as {kind}");
            }
        }
    }

    /// What serde_json calls JSON, we do too, and the other way round.
    #[test]
    fn agrees_with_serde_json(text in prop_oneof![
        json().prop_map(|value| value.to_string()),
        json().prop_map(|value| serde_json::to_string_pretty(&value).unwrap()),
        "[{}\\[\\]\",:0-9eE+\\-.tn\\\\u a]{0,12}",
        "\"([a-f\\\\\"/u0-9]|\\\\u[0-9a-f]{4}|\\\\[nrtbf]){0,8}\"",
        "-?[0-9]{0,3}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,2})?",
    ]) {
        let message = format!("{{\"V\":{text}}}");
        let ours = values(&mut stream(vec![column("V", ColumnType::Json)]), &[message.as_bytes()]);
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text);
        prop_assert_eq!(ours.rejects.is_empty(), theirs.is_ok(), "{}", text);
        let string = values(&mut stream(vec![column("V", ColumnType::String)]), &[message.as_bytes()]);
        if let Ok(expected) = serde_json::from_str::<std::string::String>(&text) {
            prop_assert_eq!(shown(&string, 0), Ok(expected));
        }
    }
}

#[test]
fn a_document_is_kept_whole_beside_its_columns() {
    let keyed = schema(Some(KeyFormat::String), vec![column("k", ColumnType::String)], vec![]);
    for (format, around) in [
        (ValueFormat::Json, ["", ""]),
        (ValueFormat::Connect, [r#"{"schema":null,"payload":"#, "}"]),
    ] {
        let schema = Schema { value_format: format, ..keyed.clone() };
        let mut decoder = Decoder::new(&schema, true, false, false).keep_documents(true);
        let wrapped = |text: &str| format!("{}{text}{}", around[0], around[1]);
        let [whole, list] = [r#" {"A": [1, {"b":2.50}], "A": "\u0000"} "#, "[1]"].map(wrapped);
        let records = [
            (Some(&b"x"[..]), Some(whole.as_bytes())),
            (Some(&b"x"[..]), Some(list.as_bytes())),
            (Some(&b"x"[..]), None),
            (Some(&b"y"[..]), Some(whole.as_bytes())),
        ];
        let decoded = decoder.decode(&batch(&records), 0);
        let text = r#"{"A": [1, {"b":2.50}], "A": "\u0000"}"#;
        let documents: Vec<_> = decoded.documents.as_ref().unwrap().iter().collect();
        assert_eq!(documents, [Some(text), None, Some(text)], "{format:?}");
        assert_eq!(decoded.rejects.len(), 1);
        let cut = decoded.cut_before(103);
        assert_eq!((cut.num_rows(), cut.documents.unwrap().value(0)), (1, text));
    }
}
