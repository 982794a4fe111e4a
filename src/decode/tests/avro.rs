//! Avro keys and values, with their schemas handed in.

use std::sync::Arc;

use apache_avro::types::Value;

use super::*;
use crate::avro::AvroSchema;
use crate::config::Evolve;
use crate::decode::infer_avro;

const V1: &str = r#"{"type":"record","name":"v","fields":[{"name":"N","type":"int"},
    {"name":"M","type":["null",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}]}]}"#;
const V2: &str = r#"{"type":"record","name":"v","fields":[{"name":"N","type":"long"},
    {"name":"D","type":["null",{"type":"int","logicalType":"date"}]},
    {"name":"P","type":["null",{"type":"record","name":"p","fields":[
        {"name":"Q","type":{"type":"bytes","logicalType":"decimal","precision":5,"scale":3}},
        {"name":"R","type":["null","string"]}]}]}]}"#;

fn framed(id: u8, schema: &str, value: impl Into<Value>) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let datum = apache_avro::to_avro_datum(&schema, value).unwrap();
    [vec![0, 0, 0, 0, id], datum].concat()
}

fn record(fields: &[(&str, Value)]) -> Value {
    Value::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

fn parsed(text: &str) -> AvroSchema {
    AvroSchema::parse(text, &[]).unwrap()
}

fn batch(records: &[Record<'_>]) -> RawBatch {
    let mut raw = RawBatch::new(TopicPartition::new("t", 0), 0);
    for (offset, (key, value)) in records.iter().enumerate() {
        raw.push(offset as i64, 0, *key, *value, []);
    }
    raw
}

#[test]
fn a_windowed_key_and_a_value() {
    let columns = vec![
        column("k", ColumnType::String),
        column("window_start", ColumnType::Long),
        column("N", ColumnType::Long),
        column("M", ColumnType::Decimal { precision: 9, scale: 2 }),
    ];
    let window = WindowColumns { kind: Window::Time, start: 1, count: 1, size_ms: None };
    let schema = Schema {
        key_format: KeyFormat::Avro,
        value_format: ValueFormat::Avro,
        window: Some(window),
        ..Schema::json(columns, 2)
    };
    let mut decoder = Decoder::new(&schema, true, false, false).keep_documents(true);
    let key = |text: &str| {
        let bare = framed(1, "\"string\"", Value::String(text.to_owned()));
        [bare, 7i64.to_be_bytes().to_vec()].concat()
    };
    let money = some(Value::Decimal(apache_avro::Decimal::from(vec![0xFF, 0x85])));
    let value = framed(2, V1, record(&[("N", Value::Int(5)), ("M", money)]));
    let cut = &value[..value.len() - 1];
    let unknown = [0, 0, 0, 0, 9, 1];
    let (good, bad) = (key("a"), key("b"));
    let raw = batch(&[
        (Some(&good), Some(&value)),
        (Some(&bad), None),
        (Some(&good), Some(cut)),
        (Some(&good), Some(&unknown)),
        (Some(&good), Some(b"{}")),
        (Some(b"short"), Some(&value)),
    ]);
    assert_eq!(decoder.unknown_schemas(&raw, 0), [1, 2, 9].into());
    assert_eq!(decoder.unknown_schemas(&raw, 4), [1, 2].into());
    decoder.learn(1, Ok(Arc::new(parsed("\"string\""))));
    decoder.learn(2, Ok(Arc::new(parsed(V1))));
    decoder.learn(9, Err("schema 9 of there: none".into()));
    assert!(decoder.unknown_schemas(&raw, 0).is_empty());
    let found = decoder.decode(&raw, 0);
    assert_eq!(found.offsets.values(), &[0, 1]);
    let column = |at: usize| found.rows.column(at);
    assert_eq!(column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(column(1).as_primitive::<Int64Type>().values(), &[7, 7]);
    assert_eq!(column(2).as_primitive::<Int64Type>().value(0), 5);
    assert_eq!(column(3).as_primitive::<Decimal128Type>().value(0), -123);
    assert!(column(2).is_null(1) && column(3).is_null(1));
    let documents = found.documents.as_ref().unwrap();
    assert_eq!(documents.value(0), r#"{"N":5,"M":-1.23}"#);
    let rejects: Vec<_> =
        found.rejects.iter().map(|reject| (reject.offset, reject.class)).collect();
    use RejectClass::{Malformed, NoSchema, WrongType};
    assert_eq!(rejects, [(2, Malformed), (3, NoSchema), (4, Malformed), (5, WrongType)]);
    assert!(found.rejects[1].reason.contains("schema 9 of there"), "{}", found.rejects[1].reason);
    assert!(found.rejects[0].reason.contains("schema 2"), "{}", found.rejects[0].reason);
    // That there is no schema is believed for one batch.
    assert_eq!(decoder.unknown_schemas(&raw, 0), [9].into());
}

#[test]
fn new_fields_have_the_types_of_their_schema() {
    let schema = Schema {
        value_format: ValueFormat::Avro,
        evolve: Some(Evolve::default()),
        ..Schema::json(vec![column("N", ColumnType::Long)], 0)
    };
    let mut decoder = Decoder::new(&schema, false, false, false);
    decoder.learn(1, Ok(Arc::new(parsed(V1))));
    decoder.learn(2, Ok(Arc::new(parsed(V2))));
    let place = record(&[
        ("Q", Value::Decimal(apache_avro::Decimal::from(vec![4]))),
        ("R", Value::Union(0, Box::new(Value::Null))),
    ]);
    let value = framed(
        2,
        V2,
        record(&[("N", Value::Long(1)), ("D", some(Value::Date(3))), ("P", some(place))]),
    );
    decoder.decode(&batch(&[(None, Some(&value))]), 0);
    let new = decoder.new_fields().unwrap();
    let columns = new.fields.iter().flat_map(|field| &field.columns);
    let columns: Vec<_> = columns.map(|(path, kind)| format!("{path} {kind}")).collect();
    assert_eq!(columns, ["D date", "P.Q decimal(5,3)", "P.R string"]);
}

#[test]
fn columns_and_key_are_inferred_from_schemas() {
    let of_key = parsed(r#"{"type":"record","name":"k","fields":[{"name":"ID","type":"long"}]}"#);
    let (old, new) = (parsed(V1), parsed(V2));
    let found = infer_avro(&[&new, &old], Some(&of_key), [], &[], Nesting::Flatten).unwrap();
    let columns = found.columns.iter().chain(&found.key.as_ref().unwrap().columns);
    let columns: Vec<_> =
        columns.map(|it| format!("{} {} {}", it.name, it.kind, it.path())).collect();
    assert_eq!(
        columns,
        [
            "n long N",
            "d date D",
            "p_q decimal(5,3) P.Q",
            "p_r string P.R",
            "m decimal(9,2) M",
            "id long ID"
        ]
    );
    let bare = parsed("\"int\"");
    let key = infer_avro(&[&old], Some(&bare), [], &[], Nesting::Flatten).unwrap().key.unwrap();
    assert_eq!((key.format, key.columns[0].kind), (KeyFormat::Avro, ColumnType::Long));
    assert!(infer_avro(&[&bare], None, [], &[], Nesting::Flatten).is_none());
}

proptest! {
    /// Whatever the bytes, and whatever the schema: a row or a reject for each record.
    #[test]
    fn arbitrary_avro_never_panics(
        bodies in prop::collection::vec((0u8..4, prop::collection::vec(any::<u8>(), 0..40)), 1..20),
    ) {
        let columns = vec![column("k", ColumnType::Long), column("N", ColumnType::Long),
            column("D", ColumnType::Date), column("Q", ColumnType::Json)];
        let schema = Schema {
            key_format: KeyFormat::Avro,
            value_format: ValueFormat::Avro,
            ..Schema::json(columns, 1)
        };
        let mut decoder = Decoder::new(&schema, true, false, false);
        decoder.learn(1, Ok(Arc::new(parsed(V1))));
        decoder.learn(2, Ok(Arc::new(parsed(V2))));
        decoder.learn(3, Ok(Arc::new(parsed("\"long\""))));
        let bodies: Vec<Vec<u8>> =
            bodies.into_iter().map(|(id, body)| [vec![0, 0, 0, 0, id], body].concat()).collect();
        let records: Vec<_> = bodies.iter().map(|it| (Some(&it[..]), Some(&it[..]))).collect();
        let raw = batch(&records);
        decoder.unknown_schemas(&raw, 0);
        let found = decoder.decode(&raw, 0);
        prop_assert_eq!(found.num_rows() + found.rejects.len(), bodies.len());
    }
}
