//! Where a record lies in the lake: its day, its folder, its file's name.
//!
//! Pure. A name is never used twice: it carries a random id.

use arrow::array::{Array, Date32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use chrono::{Datelike, NaiveDate};
use uuid::Uuid;

pub use crate::config::PARTITION_COLUMNS;

/// Days since 1970-01-01, UTC.
pub type Day = i32;

/// Folder of a feed's table, below the lake's root.
pub fn table_path(feed: &str) -> String {
    format!("streams/{feed}")
}

/// Folder of a feed's quarantine table, below the lake's root.
pub fn quarantine_path(feed: &str) -> String {
    format!("quarantine/{feed}")
}

/// Path of a new file of one day, below the table's folder.
pub fn file_path(day: Day, id: Uuid) -> String {
    let date = date(day);
    format!(
        "year={:04}/month={:02}/day={:02}/data_{:04}{:02}{:02}_{}.parquet",
        date.year(),
        date.month(),
        date.day(),
        date.year(),
        date.month(),
        date.day(),
        id.simple()
    )
}

/// Values of [`PARTITION_COLUMNS`] for a day, as a Delta log writes them.
pub fn partition_values(day: Day) -> [String; 3] {
    let date = date(day);
    [date.year().to_string(), date.month().to_string(), date.day().to_string()]
}

fn date(day: Day) -> NaiveDate {
    let epoch = NaiveDate::default();
    epoch.checked_add_signed(chrono::Duration::days(i64::from(day))).unwrap_or(epoch)
}

/// The day of each row: by its event time, else by Kafka's timestamp, else 1970-01-01. Years beyond
/// 0001 to 9999 go by Kafka's timestamp too.
pub fn days(rows: &RecordBatch, time: Option<usize>, timestamps: &Int64Array) -> Days {
    let event = time.map(|index| rows.column(index));
    let of_row = |row: usize| -> Day {
        event
            .and_then(|column| event_day(column, row))
            .or_else(|| timestamps.is_valid(row).then(|| day_of_millis(timestamps.value(row))))
            .filter(|day| (FIRST_DAY..=LAST_DAY).contains(day))
            .unwrap_or(0)
    };
    let count = rows.num_rows();
    let Some(first) = (count > 0).then(|| of_row(0)) else { return Days::One(0) };
    match (1..count).find(|row| of_row(*row) != first) {
        None => Days::One(first),
        Some(_) => Days::Many((0..count).map(of_row).collect()),
    }
}

/// The days of a batch's rows.
#[derive(Debug, PartialEq, Eq)]
pub enum Days {
    One(Day),
    Many(Vec<Day>),
}

/// 0001-01-01.
const FIRST_DAY: Day = -719_162;
/// 9999-12-31.
const LAST_DAY: Day = 2_932_896;
const MILLIS_PER_DAY: i64 = 86_400_000;

fn event_day(column: &dyn Array, row: usize) -> Option<Day> {
    if column.is_null(row) {
        return None;
    }
    let day = match column.data_type() {
        DataType::Timestamp(..) => {
            let times = column.as_any().downcast_ref::<TimestampMicrosecondArray>()?;
            day_of_millis(times.value(row).div_euclid(1000))
        }
        DataType::Date32 => column.as_any().downcast_ref::<Date32Array>()?.value(row),
        _ => return None,
    };
    (FIRST_DAY..=LAST_DAY).contains(&day).then_some(day)
}

fn day_of_millis(millis: i64) -> Day {
    i32::try_from(millis.div_euclid(MILLIS_PER_DAY)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema, TimeUnit};
    use std::sync::Arc;

    #[test]
    fn a_day_has_its_folder() {
        // 2025-10-13.
        let id = Uuid::from_u128(1);
        assert_eq!(
            file_path(20374, id),
            "year=2025/month=10/day=13/data_20251013_00000000000000000000000000000001.parquet"
        );
        assert_eq!(partition_values(20374), ["2025", "10", "13"]);
        assert_eq!(file_path(-1, id).split('/').next(), Some("year=1969"));
    }

    #[test]
    fn rows_go_by_event_time_then_by_kafkas() {
        let zone = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![Field::new("t", zone, true)]);
        let day = MILLIS_PER_DAY;
        let times =
            TimestampMicrosecondArray::from(vec![Some(day * 1000), Some(-1), None, Some(i64::MAX)])
                .with_timezone("UTC");
        let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(times)]).unwrap();
        let timestamps = Int64Array::from(vec![Some(0), Some(0), Some(5 * day), None]);
        assert_eq!(days(&rows, Some(0), &timestamps), Days::Many(vec![1, -1, 5, 0]));
        assert_eq!(days(&rows.slice(0, 1), Some(0), &timestamps), Days::One(1));
        assert_eq!(days(&rows.slice(0, 0), None, &timestamps), Days::One(0));
    }
}
