//! Which time a row belongs to, as finely as the layout tells times apart.

use arrow::array::{Array, Date32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use chrono::{Datelike, Months, NaiveDate};

use crate::config::{Feed, Precision, TimeSource};

/// The start of the time that a file's rows belong to: hours since 1970-01-01, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub(super) i64);

const HOURS: i64 = 24;
/// 0001-01-01.
const FIRST_HOUR: i64 = -719_162 * HOURS;
/// The last hour of 9999-12-31.
const LAST_HOUR: i64 = 2_932_896 * HOURS + 23;
const MILLIS_PER_HOUR: i64 = 3_600_000;

impl Slot {
    pub const EPOCH: Slot = Slot(0);

    /// The day of a moment.
    pub fn day_of_millis(millis: i64) -> Self {
        Self(millis.div_euclid(MILLIS_PER_HOUR * HOURS).saturating_mul(HOURS))
    }

    fn date(self) -> NaiveDate {
        let epoch = NaiveDate::default();
        let days = chrono::Duration::try_days(self.0.div_euclid(HOURS));
        days.and_then(|days| epoch.checked_add_signed(days)).unwrap_or(epoch)
    }

    pub fn year(self) -> i32 {
        self.date().year()
    }

    pub fn month(self) -> u32 {
        self.date().month()
    }

    pub fn day(self) -> u32 {
        self.date().day()
    }

    pub fn hour(self) -> i64 {
        self.0.rem_euclid(HOURS)
    }

    /// `2025`, `2025-10`, `2025-10-13` or `2025-10-13T07`.
    pub fn label(self, precision: Precision) -> String {
        let (year, month, day) = (self.year(), self.month(), self.day());
        match precision {
            Precision::Year => format!("{year:04}"),
            Precision::Month => format!("{year:04}-{month:02}"),
            Precision::Day => format!("{year:04}-{month:02}-{day:02}"),
            Precision::Hour => format!("{year:04}-{month:02}-{day:02}T{:02}", self.hour()),
        }
    }

    fn floor(self, precision: Precision) -> Self {
        let start = match precision {
            Precision::Hour => return self,
            Precision::Day => return Self(self.0.div_euclid(HOURS) * HOURS),
            Precision::Month => self.date().with_day0(0),
            Precision::Year => self.date().with_ordinal0(0),
        };
        let start = start.unwrap_or_default();
        Self(start.signed_duration_since(NaiveDate::default()).num_days() * HOURS)
    }
}

/// How precise a [`Slot::label`] is.
pub fn precision_of(label: &str) -> Option<Precision> {
    match label.len() {
        4 => Some(Precision::Year),
        7 => Some(Precision::Month),
        10 => Some(Precision::Day),
        13 => Some(Precision::Hour),
        _ => None,
    }
}

/// The end of the time that a [`Slot::label`] names, which is not part of it any more: milliseconds since
/// the epoch. None for what is no label.
pub fn end_of(label: &str) -> Option<i64> {
    let (date, hour) = match label.split_once('T') {
        Some((date, hour)) => (date, Some(hour.parse::<i64>().ok().filter(|hour| *hour < HOURS)?)),
        None => (label, None),
    };
    let day = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let after = match (date.len(), hour) {
        (4, None) => day(&format!("{date}-01-01"))?.checked_add_months(Months::new(12))?,
        (7, None) => day(&format!("{date}-01"))?.checked_add_months(Months::new(1))?,
        (10, None) => day(date)?.succ_opt()?,
        (10, Some(_)) => day(date)?,
        _ => return None,
    };
    let hours = after.signed_duration_since(NaiveDate::default()).num_days() * HOURS;
    Some((hours + hour.map_or(0, |hour| hour + 1)) * MILLIS_PER_HOUR)
}

/// The slots of a batch's rows.
#[derive(Debug, PartialEq, Eq)]
pub enum Slots {
    One(Slot),
    Many(Vec<Slot>),
}

impl Slots {
    pub fn all(&self) -> impl Iterator<Item = Slot> {
        let slots = match self {
            Slots::One(slot) => std::slice::from_ref(slot),
            Slots::Many(slots) => slots,
        };
        slots.iter().copied()
    }
}

/// What the slots of rows go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Index of the column.
    Column(usize),
    Kafka,
    /// One moment for all, in milliseconds.
    Moment(i64),
}

impl By {
    /// For a file that is written `now`.
    pub fn of(feed: &Feed, now_ms: i64) -> Self {
        match feed.lake_time() {
            TimeSource::Column(index) => Self::Column(index),
            TimeSource::Kafka => Self::Kafka,
            TimeSource::Ingest => Self::Moment(now_ms),
        }
    }
}

/// The slot of each row: by its event time, else by Kafka's timestamp, else 1970-01-01. Years beyond
/// 0001 to 9999 go by Kafka's timestamp too.
pub fn slots(rows: &RecordBatch, by: By, timestamps: &Int64Array, precision: Precision) -> Slots {
    let event = match by {
        By::Column(index) => Some(rows.column(index)),
        By::Kafka => None,
        By::Moment(millis) => {
            let hour = Some(millis.div_euclid(MILLIS_PER_HOUR)).filter(in_range);
            return Slots::One(Slot(hour.unwrap_or(0)).floor(precision));
        }
    };
    let of_row = |row: usize| -> Slot {
        let kafkas = || {
            let known = timestamps.is_valid(row).then(|| timestamps.value(row));
            known.map(|millis| millis.div_euclid(MILLIS_PER_HOUR)).filter(in_range)
        };
        let hour = event.and_then(|column| event_hour(column, row)).or_else(kafkas);
        Slot(hour.unwrap_or(0)).floor(precision)
    };
    let count = rows.num_rows();
    let Some(first) = (count > 0).then(|| of_row(0)) else { return Slots::One(Slot::EPOCH) };
    match (1..count).find(|row| of_row(*row) != first) {
        None => Slots::One(first),
        Some(_) => Slots::Many((0..count).map(of_row).collect()),
    }
}

fn in_range(hour: &i64) -> bool {
    (FIRST_HOUR..=LAST_HOUR).contains(hour)
}

fn event_hour(column: &dyn Array, row: usize) -> Option<i64> {
    if column.is_null(row) {
        return None;
    }
    let hour = match column.data_type() {
        DataType::Timestamp(..) => {
            let times = column.as_any().downcast_ref::<TimestampMicrosecondArray>()?;
            times.value(row).div_euclid(1000 * MILLIS_PER_HOUR)
        }
        DataType::Date32 => {
            i64::from(column.as_any().downcast_ref::<Date32Array>()?.value(row)) * HOURS
        }
        _ => return None,
    };
    Some(hour).filter(in_range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema, TimeUnit};
    use std::sync::Arc;

    const DAY: i64 = HOURS * MILLIS_PER_HOUR;

    #[test]
    fn rows_go_by_event_time_then_by_kafkas() {
        let zone = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![Field::new("t", zone, true)]);
        let times =
            TimestampMicrosecondArray::from(vec![Some(DAY * 1000), Some(-1), None, Some(i64::MAX)])
                .with_timezone("UTC");
        let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(times)]).unwrap();
        let timestamps = Int64Array::from(vec![Some(0), Some(0), Some(5 * DAY), None]);
        let found = |rows: &RecordBatch, by, precision| slots(rows, by, &timestamps, precision);
        let event = By::Column(0);
        let day = |day: i64| Slot(day * HOURS);
        let days = vec![day(1), day(-1), day(5), day(0)];
        assert_eq!(found(&rows, event, Precision::Day), Slots::Many(days));
        let hours = vec![day(1), Slot(-1), day(5), day(0)];
        assert_eq!(found(&rows, event, Precision::Hour), Slots::Many(hours));
        let months = vec![day(0), day(-31), day(0), day(0)];
        assert_eq!(found(&rows, event, Precision::Month), Slots::Many(months));
        assert_eq!(found(&rows.slice(0, 1), event, Precision::Year), Slots::One(day(0)));
        assert_eq!(found(&rows.slice(0, 0), By::Kafka, Precision::Day), Slots::One(day(0)));
        let kafkas = vec![day(0), day(0), day(5), day(0)];
        assert_eq!(found(&rows, By::Kafka, Precision::Day), Slots::Many(kafkas));
        let moment = By::Moment(20374 * DAY + 7 * MILLIS_PER_HOUR + 1);
        assert_eq!(found(&rows, moment, Precision::Hour), Slots::One(Slot(20374 * HOURS + 7)));
        assert_eq!(found(&rows, moment, Precision::Day), Slots::One(day(20374)));
        assert_eq!(found(&rows, By::Moment(i64::MAX), Precision::Day), Slots::One(day(0)));
    }

    #[test]
    fn a_slot_says_its_time() {
        let precisions = [Precision::Year, Precision::Month, Precision::Day, Precision::Hour];
        let labels = precisions.map(|precision| Slot(20374 * HOURS + 7).label(precision));
        assert_eq!(labels, ["2025", "2025-10", "2025-10-13", "2025-10-13T07"]);
        assert_eq!(labels.clone().map(|label| precision_of(&label)), precisions.map(Some));
        assert_eq!(Slot::day_of_millis(-1).label(Precision::Day), "1969-12-31");
        let ends = labels.map(|label| end_of(&label).unwrap() / MILLIS_PER_HOUR);
        assert_eq!(ends, [20454 * HOURS, 20393 * HOURS, 20375 * HOURS, 20374 * HOURS + 8]);
        for no_label in ["", "2025-13", "2025-02-30", "2025-10-13T24", "2025T07", "next week!"] {
            assert_eq!(end_of(no_label), None, "{no_label}");
        }
    }
}
