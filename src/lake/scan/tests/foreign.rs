//! Files of a Delta table that somebody else wrote, as other engines do who put files together.

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{Field, Int8Type, Schema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::json;

use super::super::*;
use super::bench::{Bench, all, collect, given, rows, text, timestamp};
use crate::record::Value;

/// Adds a file of these offsets with so many rows to a row group; with `stats`, Delta's of all columns
/// too, cut as other writers cut them.
pub async fn add_file(bench: &Bench, offsets: &[i64], group: usize, stats: Option<()>) {
    let own = rows(&bench.feed, offsets);
    let topics: DictionaryArray<Int8Type> = offsets.iter().map(|_| "t").collect();
    let times = offsets.iter().map(|at| Some(timestamp(*at) * 1000));
    let times = times.collect::<arrow::array::TimestampMicrosecondArray>().with_timezone("UTC");
    let ours: [(&str, ArrayRef); 4] = [
        ("_topic", Arc::new(topics)),
        ("_partition", Arc::new(Int32Array::from_value(9, offsets.len()))),
        ("_offset", Arc::new(Int64Array::from(offsets.to_vec()))),
        ("_timestamp", Arc::new(times)),
    ];
    let stats = stats.map(|()| statistics(&own));
    let fields = own.schema().fields().iter().map(|it| it.as_ref().clone()).collect::<Vec<_>>();
    let more = ours.iter().map(|(name, it)| Field::new(*name, it.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.into_iter().chain(more).collect::<Vec<_>>()));
    let columns = own.columns().iter().cloned().chain(ours.into_iter().map(|(_, it)| it)).collect();
    add_batch(bench, &RecordBatch::try_new(schema, columns).unwrap(), group, stats, false).await;
}

fn statistics(rows: &RecordBatch) -> serde_json::Value {
    let (mut least, mut greatest, mut nulls) = (json!({}), json!({}), json!({}));
    for (field, values) in rows.schema().fields().iter().zip(rows.columns()) {
        nulls[field.name()] = json!(values.null_count());
        let mut said: Vec<String> = (0..rows.num_rows())
            .filter(|row| values.is_valid(*row))
            .map(|row| arrow::util::display::array_value_to_string(values, row).unwrap())
            .collect();
        let (lowest, highest) = match field.name().as_str() {
            // By value, where text has another order.
            "id" | "price" | "share" => {
                said.sort_by(|a, b| a.parse::<f64>().unwrap().total_cmp(&b.parse().unwrap()));
                let number =
                    |text: &String| serde_json::from_str::<serde_json::Value>(text).unwrap();
                (number(&said[0]), number(&said[said.len() - 1]))
            }
            "at" => {
                use arrow::array::AsArray;
                let times = values.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
                let cut = |micros: Option<i64>| {
                    let time = chrono::DateTime::from_timestamp_millis(micros.unwrap() / 1000);
                    json!(time.unwrap().to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
                };
                (cut(arrow::compute::min(times)), cut(arrow::compute::max(times)))
            }
            "flag" => continue,
            "name" => {
                said.sort();
                let (Some(first), Some(last)) = (said.first(), said.last()) else { continue };
                (json!(first[..3]), json!(last[..3]))
            }
            _ => {
                said.sort();
                // Dates before the epoch sort as text, too.
                (json!(said[0]), json!(said[said.len() - 1]))
            }
        };
        least[field.name()] = lowest;
        greatest[field.name()] = highest;
    }
    json!({"numRecords": rows.num_rows(), "minValues": least, "maxValues": greatest, "nullCount": nulls})
}

async fn add_batch(
    bench: &Bench,
    rows: &RecordBatch,
    group: usize,
    stats: Option<serde_json::Value>,
    odd: bool,
) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut file = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    file.write(rows).unwrap();
    add_bytes(bench, file.into_inner().unwrap(), stats, odd).await;
}

async fn add_bytes(bench: &Bench, file: Vec<u8>, stats: Option<serde_json::Value>, odd: bool) {
    let version = bench.scan(At::Latest).await.unwrap().version().unwrap() + 1;
    let (name, said) = match odd {
        // A name is said as in an address.
        true => (format!("part 1%{version}.parquet"), format!("part%201%25{version}.parquet")),
        false => (format!("part-{version}.parquet"), format!("part-{version}.parquet")),
    };
    std::fs::write(bench.path(&name), &file).unwrap();
    let add = json!({"add": {
        "path": said, "size": file.len(), "modificationTime": 1, "dataChange": true,
        "partitionValues": {"year": "1970", "month": "1", "day": null},
        "stats": stats.map(|stats| stats.to_string()),
    }});
    let entry = bench.path(&format!("_delta_log/{version:020}.json"));
    std::fs::write(entry, add.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_types_a_file_has_the_tables_come_out() {
    let bench = Bench::new(LakeFormat::Delta).await;
    let topics: DictionaryArray<Int8Type> = ["t", "t"].into_iter().collect();
    let name = arrow::array::LargeStringArray::from(vec![Some("a"), None]);
    let at = arrow::array::TimestampMillisecondArray::from(vec![Some(1500), None]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("_topic", Arc::new(topics)),
        ("name", Arc::new(name)),
        ("at", Arc::new(at.with_timezone("UTC"))),
        ("id", Arc::new(Int32Array::from(vec![7, -7]))),
        (
            "price",
            Arc::new(
                arrow::compute::cast(
                    &Int32Array::from(vec![Some(3), None]),
                    &arrow::datatypes::DataType::Decimal128(9, 1),
                )
                .unwrap(),
            ),
        ),
        ("unknown", Arc::new(StringArray::from(vec!["x", "y"]))),
    ];
    let rows =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)));
    add_batch(&bench, &rows.unwrap(), 10, None, true).await;
    let scan = bench.scan(At::Latest).await.unwrap();
    let batches = given(&scan, all(&scan)).await;
    assert_eq!(batches[0].0.schema(), scan.schema());
    let expected = ["7|a|1970-01-01T00:00:01.500Z|3.00||||t||||1970|1|", "-7|||||||t||||1970|1|"];
    assert_eq!(text(&batches[0].0), expected);
    // Its statistics are in its own types.
    for (id, rows) in [(7, 2), (8, 0)] {
        let least = Some(Value::Long(id));
        let bounds = vec![Bound { column: "id".into(), least, greatest: None }];
        let found = collect(&given(&scan, Request { bounds, ..all(&scan) }).await);
        assert_eq!(found.len(), rows);
    }
}

/// Times as Spark writes them; nanoseconds end in the year 2262.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_day_of_all_is_read() {
    use parquet::data_type::{Int96, Int96Type};
    use parquet::file::writer::SerializedFileWriter;

    let bench = Bench::new(LakeFormat::Delta).await;
    let schema = "message rows { optional int96 at; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let mut time = Int96::new();
    // 9999-12-31 as a Julian day, and a second in nanoseconds.
    time.set_data(1_000_000_000, 0, 5_373_484);
    column.typed::<Int96Type>().write_batch(&[time], Some(&[1]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    add_bytes(&bench, file.into_inner().unwrap(), None, false).await;
    let scan = bench.scan(At::Latest).await.unwrap();
    let request = Request { columns: vec!["at".into()], ..Request::default() };
    assert_eq!(collect(&given(&scan, request).await), ["9999-12-31T00:00:01Z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused() {
    let bench = Bench::new(LakeFormat::Delta).await;
    add_file(&bench, &[1, 2, 3], 10, None).await;
    let entry = bench.path("_delta_log/00000000000000000003.json");
    let said = std::fs::read_to_string(&entry).unwrap();
    let elsewhere = said.replace("part-3.parquet", "s3://other/part.parquet");
    std::fs::write(&entry, elsewhere).unwrap();
    let error = bench.scan(At::Latest).await.err().unwrap();
    assert!(error.to_string().contains("outside"), "{error}");
    std::fs::write(&entry, said).unwrap();
    let file = bench.path("part-3.parquet");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![0; bytes.len()]).unwrap();
    let scan = bench.scan(At::Latest).await.unwrap();
    let read = futures::TryStreamExt::try_collect::<Vec<_>>(scan.batches(all(&scan))).await;
    assert!(read.unwrap_err().message.contains("part-3.parquet is damaged"));
}
