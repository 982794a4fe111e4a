use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum};
use proptest::prelude::*;

use super::*;
use crate::config::Nesting;

/// What a value becomes that the library has encoded.
fn spelled(schema: &str, value: Value) -> String {
    let bytes = to_avro_datum(&Schema::parse_str(schema).unwrap(), value).unwrap();
    let mut out = String::new();
    AvroSchema::parse(schema, &[]).unwrap().spell(&bytes, &mut out).unwrap();
    out
}

fn read(schema: &str, bytes: &[u8]) -> Result<String, String> {
    let mut out = String::new();
    AvroSchema::parse(schema, &[]).unwrap().spell(bytes, &mut out).map(|()| out)
}

#[test]
fn the_wire_format() {
    assert_eq!(parts(&[0, 0, 0, 1, 2, 9]), Some((258, &[9][..])));
    assert_eq!(parts(&[0, 0, 0, 0, 7]), Some((7, &[][..])));
    for bytes in [&[][..], &[0, 0, 0, 1], &[1, 0, 0, 0, 1, 9], b"{\"a\":1}"] {
        assert_eq!(parts(bytes), None, "{bytes:?}");
    }
}

/// The examples of the specification, byte by byte.
#[test]
fn bytes_of_the_specification() {
    for (number, bytes) in [
        (0, &[0x00][..]),
        (-1, &[0x01]),
        (1, &[0x02]),
        (-2, &[0x03]),
        (-64, &[0x7F]),
        (64, &[0x80, 0x01]),
        (i64::MIN, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
    ] {
        assert_eq!(read("\"long\"", bytes), Ok(number.to_string()));
    }
    assert_eq!(read("\"string\"", &[0x06, 0x66, 0x6F, 0x6F]).unwrap(), "\"foo\"");
    let record = r#"{"type":"record","name":"test","fields":[
        {"name":"a","type":"long"},{"name":"b","type":"string"}]}"#;
    let bytes = [0x36, 0x06, 0x66, 0x6F, 0x6F];
    assert_eq!(read(record, &bytes).unwrap(), r#"{"a":27,"b":"foo"}"#);
    let array = r#"{"type":"array","items":"long"}"#;
    assert_eq!(read(array, &[0x04, 0x06, 0x36, 0x00]).unwrap(), "[3,27]");
    // A negative count, with the block's size behind it; two blocks.
    assert_eq!(read(array, &[0x03, 0x04, 0x06, 0x36, 0x02, 0x02, 0x00]).unwrap(), "[3,27,1]");
    let union = r#"["null","string"]"#;
    assert_eq!(read(union, &[0x00]).unwrap(), "null");
    assert_eq!(read(union, &[0x02, 0x02, 0x61]).unwrap(), "\"a\"");
}

#[test]
fn values_the_library_encodes() {
    let schema = r#"{"type":"record","name":"n.r","fields":[
        {"name":"b","type":"boolean"},{"name":"f","type":"float"},{"name":"d","type":"double"},
        {"name":"raw","type":"bytes"},{"name":"x","type":{"type":"fixed","name":"four","size":4}},
        {"name":"e","type":{"type":"enum","name":"color","symbols":["RED","BLUE"]}},
        {"name":"m","type":{"type":"map","values":["null","int"]}},
        {"name":"money","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
        {"name":"day","type":{"type":"int","logicalType":"date"}},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"tod","type":{"type":"int","logicalType":"time-millis"}},
        {"name":"again","type":"four"},{"name":"s","type":"string"}]}"#;
    let value = Value::Record(vec![
        ("b".into(), Value::Boolean(true)),
        ("f".into(), Value::Float(0.1)),
        ("d".into(), Value::Double(-0.0)),
        ("raw".into(), Value::Bytes(vec![0, 255])),
        ("x".into(), Value::Fixed(4, vec![1, 2, 3, 4])),
        ("e".into(), Value::Enum(1, "BLUE".into())),
        (
            "m".into(),
            Value::Map([("k\"".to_owned(), Value::Union(1, Box::new(Value::Int(-5))))].into()),
        ),
        ("money".into(), Value::Decimal(apache_avro::Decimal::from(vec![0xFF, 0x85]))),
        ("day".into(), Value::Date(-1)),
        ("at".into(), Value::TimestampMicros(1_760_373_508_047_846)),
        ("tod".into(), Value::TimeMillis(3_661_001)),
        ("again".into(), Value::Fixed(4, vec![0; 4])),
        ("s".into(), Value::String("a\n\u{0}é".into())),
    ]);
    let expected = r#"{"b":true,"f":0.10000000149011612,"d":-0.0,"raw":"AP8=","x":"AQIDBA==","e":"BLUE","m":{"k\"":-5},"money":-1.23,"day":"1969-12-31","at":"2025-10-13T16:38:28.047846Z","tod":"01:01:01.001000","again":"AAAAAA==","s":"a\n\u0000é"}"#;
    assert_eq!(spelled(schema, value), expected);
}

/// Fixed types whose logical type the library would take for all there is of them.
#[test]
fn fixed_types_keep_their_size_and_name() {
    let schema = r#"{"type":"record","name":"n.r","fields":[
        {"name":"id","type":{"type":"fixed","name":"id","size":16,"logicalType":"uuid"}},
        {"name":"again","type":["null","id"]},
        {"name":"text","type":{"type":"string","logicalType":"uuid"}},
        {"name":"span","type":{"type":"fixed","name":"span","size":12,"logicalType":"duration"}},
        {"name":"money","type":{"type":"fixed","name":"money","size":18,"logicalType":"decimal","precision":38,"scale":1}},
        {"name":"more","type":"money"}]}"#;
    let id: Vec<u8> = (0..16).collect();
    let text = [&[72][..], "00010203-0405-0607-0809-0a0b0c0d0e0f".as_bytes()].concat();
    let minus = [0xFF; 18];
    let mut large = [0; 18];
    large[2] = 0x7F;
    let bytes = [&id[..], &[2], &id, &text, &[1; 12], &minus, &large].concat();
    let uuid = "\"00010203-0405-0607-0809-0a0b0c0d0e0f\"";
    let large = (0x7Fi128 << 120).to_string();
    let (whole, part) = large.split_at(large.len() - 1);
    let expected = format!(
        "{{\"id\":{uuid},\"again\":{uuid},\"text\":{uuid},\"span\":\"AQEBAQEBAQEBAQEB\",\
         \"money\":-0.1,\"more\":{whole}.{part}}}"
    );
    assert_eq!(read(schema, &bytes).unwrap(), expected);
    let columns = AvroSchema::parse(schema, &[]).unwrap().columns(Nesting::Flatten).unwrap();
    let kinds: Vec<_> = columns.iter().map(|(_, kind)| kind.to_string()).collect();
    assert_eq!(kinds, ["string", "string", "string", "bytes", "decimal(38,1)", "decimal(38,1)"]);
    let mut too_large = bytes.clone();
    let at = too_large.len() - 17;
    too_large[at] = 1;
    assert!(read(schema, &too_large).unwrap_err().contains("a decimal of 18 bytes"));
}

/// A few bytes of a schema or of a value must not become more than a machine holds.
#[test]
fn what_grows_without_end_is_cut() {
    let doubling = (0..30).rev().fold("\"int\"".to_owned(), |inner, n| {
        format!(
            r#"{{"type":"record","name":"r{n}","fields":[{{"name":"a","type":{inner}}},{{"name":"b","type":"{}"}}]}}"#,
            if n == 29 { "int".to_owned() } else { format!("r{}", n + 1) }
        )
    });
    let schema = AvroSchema::parse(&doubling, &[]).unwrap();
    assert!(schema.columns(Nesting::Flatten).unwrap().len() <= 1000);
    assert_eq!(schema.columns(Nesting::Keep).unwrap().len(), 2);
    let lists = r#"{"type":"array","items":{"type":"array","items":"null"}}"#;
    // Thirty thousand nulls in four bytes, again and again.
    let many = [&[0x80, 0x10][..], &[0xE0, 0xD4, 0x03, 0x00].repeat(1024), &[0]].concat();
    assert!(read(lists, &many).unwrap_err().contains("empty items"));
}

#[test]
fn columns_come_from_the_schema() {
    let schema = AvroSchema::parse(
        r#"{"type":"record","name":"n.order","fields":[
            {"name":"id","type":"long"},
            {"name":"total","type":["null",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}]},
            {"name":"place","type":["null",{"type":"record","name":"place","fields":[
                {"name":"city","type":"string"},{"name":"zips","type":{"type":"array","items":"int"}}]}]},
            {"name":"other","type":["null","place"]},
            {"name":"mixed","type":["null","int","string"]},
            {"name":"next","type":["null","order"]},
            {"name":"nothing","type":"null"}]}"#,
        &[],
    )
    .unwrap();
    let columns = |nesting| -> Vec<String> {
        let columns = schema.columns(nesting).unwrap().into_iter();
        columns.map(|(path, kind)| format!("{path} {kind}")).collect()
    };
    let flat = [
        "id long",
        "total decimal(9,2)",
        "place.city string",
        "place.zips json",
        "other.city string",
        "other.zips json",
        "mixed json",
        "next json",
    ];
    assert_eq!(columns(Nesting::Flatten), flat);
    let kept = columns(Nesting::Keep);
    assert_eq!(kept[2], "place struct<city:string,zips:array<long>>");
    assert_eq!((kept.len(), kept[5].as_str()), (6, "next json"));
    assert!(AvroSchema::parse("\"long\"", &[]).unwrap().columns(Nesting::Keep).is_none());
}

#[test]
fn schemas_name_others() {
    let money =
        r#"{"type":"record","name":"shop.money","fields":[{"name":"cents","type":"long"}]}"#;
    let order =
        r#"{"type":"record","name":"shop.order","fields":[{"name":"total","type":"money"}]}"#;
    let schema = AvroSchema::parse(order, &[money.to_owned()]).unwrap();
    let mut out = String::new();
    schema.spell(&[0x54], &mut out).unwrap();
    assert_eq!(out, r#"{"total":{"cents":42}}"#);
    assert!(AvroSchema::parse(order, &[]).is_err());
    assert!(AvroSchema::parse("{", &[]).unwrap_err().contains("not an Avro schema"));
}

#[test]
fn what_is_no_value_is_refused() {
    let list =
        r#"{"type":"record","name":"list","fields":[{"name":"next","type":["null","list"]}]}"#;
    assert!(read(list, &[2; 500]).unwrap_err().contains("deeper"));
    let nulls = r#"{"type":"array","items":"null"}"#;
    let many = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7F];
    assert!(read(nulls, &many).unwrap_err().contains("empty items"));
    for (schema, bytes, reason) in [
        ("\"string\"", &[0x06, 0x66][..], "3 bytes wanted, 1 left"),
        ("\"string\"", &[0x02, 0xFF], "not UTF-8"),
        ("\"string\"", &[0x01], "a size of -1"),
        ("\"long\"", &[0xFF; 11], "more than 64 bits"),
        ("\"int\"", &[0x80, 0x80, 0x80, 0x80, 0x20], "an int of"),
        ("\"boolean\"", &[2], "a boolean"),
        ("\"long\"", &[0, 0], "1 bytes behind"),
        ("\"double\"", &[0, 0, 0, 0, 0, 0, 0xF0, 0x7F], "inf"),
        (r#"["null","int"]"#, &[0x04], "branch 2"),
        (r#"{"type":"enum","name":"e","symbols":["A"]}"#, &[0x02], "a symbol 1"),
    ] {
        let error = read(schema, bytes).unwrap_err();
        assert!(error.contains(reason), "{schema} {bytes:?}: {error}");
    }
}

const ANY: &str = r#"{"type":"record","name":"any","fields":[
    {"name":"l","type":"long"},{"name":"s","type":"string"},{"name":"u","type":["null","any","double"]},
    {"name":"a","type":{"type":"array","items":["null","string","boolean"]}},
    {"name":"m","type":{"type":"map","values":"float"}},
    {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":38,"scale":38}},
    {"name":"t","type":{"type":"long","logicalType":"timestamp-nanos"}},
    {"name":"y","type":{"type":"int","logicalType":"date"}}]}"#;

proptest! {
    /// Whatever the bytes: JSON, or a reason.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = read(ANY, &bytes) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }

    /// What the library encodes comes back with the same meaning.
    #[test]
    fn any_record_means_the_same(
        l in any::<i64>(), s in "\\PC{0,9}", d in -1e9f64..1e9,
        items in prop::collection::vec(prop::option::of("[a\"\\\\\n]{0,4}"), 0..5),
    ) {
        let schema = r#"{"type":"record","name":"r","fields":[{"name":"l","type":"long"},
            {"name":"s","type":"string"},{"name":"d","type":"double"},
            {"name":"items","type":{"type":"array","items":["null","string"]}}]}"#;
        let item = |item: &Option<String>| match item {
            None => Value::Union(0, Box::new(Value::Null)),
            Some(text) => Value::Union(1, Box::new(Value::String(text.clone()))),
        };
        let text = spelled(schema, Value::Record(vec![
            ("l".into(), Value::Long(l)),
            ("s".into(), Value::String(s.clone())),
            ("d".into(), Value::Double(d)),
            ("items".into(), Value::Array(items.iter().map(item).collect())),
        ]));
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&found["l"], &serde_json::json!(l));
        prop_assert_eq!(&found["s"], &serde_json::json!(s));
        prop_assert_eq!(&found["items"], &serde_json::json!(items));
        let number = text.split("\"d\":").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
        prop_assert_eq!(number.parse::<f64>().unwrap().to_bits(), d.to_bits());
    }
}
