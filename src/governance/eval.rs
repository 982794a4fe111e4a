//! A view of batches: the records that it shows, and their values as it shows them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Datum, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::kernels::{cmp, zip::zip};
use arrow::compute::{
    and, and_kleene, cast, filter_record_batch, is_null, not, or, or_kleene, prep_null_mask_filter,
};
use arrow::datatypes::{DataType, Date32Type, Field, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use chrono::{DateTime, Days as OfCalendar, NaiveDate, NaiveTime};

use super::mask::{Salt, as_text, inside, masked};
use super::{Comparison, Condition, Days, Literal, Predicate, Show, Shown, View};
use crate::config::ColumnType;

type Outcome<T> = Result<T, ArrowError>;

impl View {
    /// What the view shows of the records, in its own columns and those alone. The batch holds at least
    /// these columns and those of [`View::judged_by`], as [`SinkColumn`](super::SinkColumn) types them.
    pub fn see(&self, batch: &RecordBatch, salt: &Salt) -> Outcome<RecordBatch> {
        let grants: Vec<BooleanArray> = self
            .grants
            .iter()
            .map(|condition| self.holds(condition, batch).map(|it| is_true(&it)))
            .collect::<Outcome<_>>()?;
        // What is unknown is taken away.
        let denials: Vec<BooleanArray> = self
            .denials
            .iter()
            .map(|denied| not(&is_true(&not(&self.holds(&denied.condition, batch)?)?)))
            .collect::<Outcome<_>>()?;
        let mut seen = constant(false, batch.num_rows());
        for grant in &grants {
            seen = or(&seen, grant)?;
        }
        for (_, hit) in self.denials.iter().zip(&denials).filter(|(it, _)| it.whole) {
            seen = and(&seen, &not(hit)?)?;
        }
        let columns = self.columns.iter().map(|shown| shown.see(batch, &grants, &denials, salt));
        let columns = columns.collect::<Outcome<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(self.schema(), columns, &options)?;
        filter_record_batch(&batch, &seen)
    }

    /// The schema of what it shows.
    pub fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|shown| {
            let kind = if shown.as_text { DataType::Utf8 } else { shown.column.kind.arrow() };
            Field::new(&shown.column.name, kind, true)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn holds(&self, condition: &Condition, batch: &RecordBatch) -> Outcome<BooleanArray> {
        let mut holds = match &condition.predicate {
            Some(predicate) => predicate.holds(batch)?,
            None => constant(true, batch.num_rows()),
        };
        if !condition.days.is_all() {
            holds = and_kleene(&holds, &self.of_days(condition.days, batch)?)?;
        }
        Ok(holds)
    }

    /// Whether the records are of these days; null where they have no time.
    fn of_days(&self, days: Days, batch: &RecordBatch) -> Outcome<BooleanArray> {
        let columns = [&self.time.event, &self.time.kafka].into_iter().flatten();
        let mut time: Option<ArrayRef> = None;
        for name in columns {
            let Some(column) = batch.column_by_name(name) else { continue };
            let column = cast(column, &ColumnType::Timestamp.arrow())?;
            time = Some(match time {
                Some(first) => zip(&is_null(&first)?, &column, &first)?,
                None => column,
            });
        }
        let Some(time) = time else { return Ok(BooleanArray::from(vec![None; batch.num_rows()])) };
        let mut holds = constant(true, batch.num_rows());
        let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
        let at = |micros| {
            TimestampMicrosecondArray::new_scalar(micros).into_inner().with_timezone("UTC")
        };
        if let Some(from) = days.from {
            let from = at(midnight(from));
            holds = and_kleene(&holds, &cmp::gt_eq(&time, &arrow::array::Scalar::new(from))?)?;
        }
        if let Some(end) = days.to.and_then(|to| to.checked_add_days(OfCalendar::new(1))) {
            let end = at(midnight(end));
            holds = and_kleene(&holds, &cmp::lt(&time, &arrow::array::Scalar::new(end))?)?;
        }
        Ok(holds)
    }
}

impl Shown {
    fn see(
        &self,
        batch: &RecordBatch,
        grants: &[BooleanArray],
        denials: &[BooleanArray],
        salt: &Salt,
    ) -> Outcome<ArrayRef> {
        let kind = self.column.kind;
        let out = if self.as_text { DataType::Utf8 } else { kind.arrow() };
        let Some(values) = batch.column_by_name(&self.column.name) else {
            return Ok(new_null_array(&out, batch.num_rows()));
        };
        let values = if values.data_type() == &kind.arrow() {
            values.clone()
        } else {
            cast(values, &kind.arrow())?
        };
        let show = |show: &Show, values: &ArrayRef| -> Outcome<ArrayRef> {
            Ok(match show {
                Show::Plain => values.clone(),
                Show::Masked(mask) => masked(values, kind, *mask, self.as_text, salt)?,
                Show::Inside(masks) => inside(values, kind, masks, self.column.part, salt)?,
            })
        };
        let text = |values: ArrayRef| match self.as_text && values.data_type() != &DataType::Utf8 {
            true => as_text(&values, kind),
            false => Ok(values),
        };
        let mut seen = new_null_array(&out, batch.num_rows());
        // The most telling comes last, over the others.
        for (grant, how) in self.by.iter().rev() {
            let value = text(show(how, &values)?)?;
            seen = match grants[*grant].true_count() == batch.num_rows() {
                true => value,
                false => zip(&grants[*grant], &value, &seen)?,
            };
        }
        for (denial, how) in &self.but {
            let hidden = match how {
                Show::Inside(masks) => inside_text(&seen, kind, masks, self, salt)?,
                Show::Masked(_) | Show::Plain => new_null_array(&out, batch.num_rows()),
            };
            seen = zip(&denials[*denial], &hidden, &seen)?;
        }
        Ok(seen)
    }
}

fn inside_text(
    seen: &ArrayRef,
    kind: ColumnType,
    masks: &[(String, super::Mask)],
    shown: &Shown,
    salt: &Salt,
) -> Outcome<ArrayRef> {
    // By now nested values are JSON text.
    let kind = if shown.as_text { ColumnType::Json } else { kind };
    inside(seen, kind, masks, shown.column.part, salt)
}

fn constant(value: bool, rows: usize) -> BooleanArray {
    BooleanArray::from(vec![value; rows])
}

/// Null is not true.
fn is_true(holds: &BooleanArray) -> BooleanArray {
    if holds.null_count() == 0 { holds.clone() } else { prep_null_mask_filter(holds) }
}

impl Predicate {
    /// Of each record true, false, or null: not known.
    pub fn holds(&self, batch: &RecordBatch) -> Outcome<BooleanArray> {
        match self {
            Self::Compare { column, comparison, literal } => {
                compare(values(batch, column)?, *comparison, literal)
            }
            Self::In { column, literals } => {
                let values = values(batch, column)?;
                let mut holds = constant(false, batch.num_rows());
                for literal in literals {
                    holds = or_kleene(&holds, &compare(values, Comparison::Equal, literal)?)?;
                }
                Ok(holds)
            }
            Self::IsNull { column } => is_null(values(batch, column)?),
            Self::Not(inner) => not(&inner.holds(batch)?),
            Self::And(one, other) => and_kleene(&one.holds(batch)?, &other.holds(batch)?),
            Self::Or(one, other) => or_kleene(&one.holds(batch)?, &other.holds(batch)?),
        }
    }

    /// Why the literals that it compares a column with are no values of the column's type.
    pub fn misfit(&self, name: &str, kind: ColumnType) -> Option<String> {
        let of = |column: &str, literals: &[Literal]| {
            let wrong = literals.iter().find(|it| column == name && scalar(kind, it).is_none())?;
            Some(format!("{name} is {kind}, which {wrong} is no value of"))
        };
        match self {
            Self::Compare { column, literal, .. } => of(column, std::slice::from_ref(literal)),
            Self::In { column, literals } => of(column, literals),
            Self::IsNull { .. } => None,
            Self::Not(inner) => inner.misfit(name, kind),
            Self::And(one, other) | Self::Or(one, other) => {
                one.misfit(name, kind).or_else(|| other.misfit(name, kind))
            }
        }
    }
}

fn values<'b>(batch: &'b RecordBatch, column: &str) -> Outcome<&'b ArrayRef> {
    let found = batch.column_by_name(column);
    found.ok_or_else(|| ArrowError::SchemaError(format!("there is no column {column}")))
}

fn compare(values: &ArrayRef, comparison: Comparison, literal: &Literal) -> Outcome<BooleanArray> {
    let misfit = || ArrowError::SchemaError(format!("{literal} is no {}", values.data_type()));
    let (values, literal): (ArrayRef, Box<dyn Datum>) = match values.data_type() {
        DataType::Int32 | DataType::Int64 | DataType::Decimal128(..) => {
            numbers(values, literal).ok_or_else(misfit)??
        }
        DataType::Float64 => {
            // The two zeros are one, as in SQL, and so is what is no number.
            let one = |it: f64| if it.is_nan() { f64::NAN.copysign(1.0) } else { it + 0.0 };
            let doubles = values.as_primitive::<Float64Type>().unary::<_, Float64Type>(one);
            let Scalar::Double(value) = scalar(ColumnType::Double, literal).ok_or_else(misfit)?
            else {
                return Err(misfit());
            };
            (Arc::new(doubles), Box::new(Float64Array::new_scalar(value + 0.0)))
        }
        DataType::Utf8 => match literal {
            Literal::Text(text) => (values.clone(), Box::new(StringArray::new_scalar(text))),
            _ => return Err(misfit()),
        },
        DataType::Boolean => match literal {
            Literal::Boolean(value) => (values.clone(), Box::new(BooleanArray::new_scalar(*value))),
            _ => return Err(misfit()),
        },
        DataType::Date32 => {
            let Scalar::Day(day) = scalar(ColumnType::Date, literal).ok_or_else(misfit)? else {
                return Err(misfit());
            };
            let days = arrow::array::PrimitiveArray::<Date32Type>::new_scalar(day);
            (values.clone(), Box::new(days))
        }
        DataType::Timestamp(..) => {
            let Scalar::Instant(micros) =
                scalar(ColumnType::Timestamp, literal).ok_or_else(misfit)?
            else {
                return Err(misfit());
            };
            let at = TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC");
            let values = cast(values, &ColumnType::Timestamp.arrow())?;
            (values, Box::new(arrow::array::Scalar::new(at)))
        }
        _ => return Err(misfit()),
    };
    match comparison {
        Comparison::Equal => cmp::eq(&values, literal.as_ref()),
        Comparison::NotEqual => cmp::neq(&values, literal.as_ref()),
        Comparison::Less => cmp::lt(&values, literal.as_ref()),
        Comparison::LessOrEqual => cmp::lt_eq(&values, literal.as_ref()),
        Comparison::Greater => cmp::gt(&values, literal.as_ref()),
        Comparison::GreaterOrEqual => cmp::gt_eq(&values, literal.as_ref()),
    }
}

type Compared = (ArrayRef, Box<dyn Datum>);

/// Integers and decimals beside a number, exactly: at one scale that holds both.
fn numbers(values: &ArrayRef, literal: &Literal) -> Option<Outcome<Compared>> {
    let Literal::Number(digits) = literal else { return None };
    let (value, scale) = decimal(digits)?;
    let (precision, own) = match values.data_type() {
        DataType::Int32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::Decimal128(precision, scale) => (*precision, *scale),
        _ => return None,
    };
    if scale == 0
        && own == 0
        && let Ok(value) = i64::try_from(value)
    {
        let integers = cast(values, &DataType::Int64);
        if !matches!(values.data_type(), DataType::Decimal128(..)) {
            return Some(integers.map(|it| (it, Box::new(Int64Array::new_scalar(value)) as _)));
        }
    }
    let common = own.max(scale);
    let precision = (precision as i8 + common - own).clamp(1, 38) as u8;
    let value = value.checked_mul(10i128.checked_pow((common - scale) as u32)?)?;
    let kind = DataType::Decimal128(precision, common);
    let wide = cast(values, &kind);
    Some(wide.map(|values| {
        let one = Decimal128Array::from(vec![value]).with_data_type(kind);
        (values, Box::new(arrow::array::Scalar::new(one)) as _)
    }))
}

/// A decimal's digits as an integer, and how many of them stand behind the point.
pub(super) fn decimal(digits: &str) -> Option<(i128, i8)> {
    let (whole, behind) = digits.split_once('.').unwrap_or((digits, ""));
    let behind = behind.trim_end_matches('0');
    let value = format!("{whole}{behind}").parse::<i128>().ok()?;
    // As many digits as any decimal has, and no more: what is longer is no column's value.
    (value.unsigned_abs() < 10u128.pow(38)).then_some((value, i8::try_from(behind.len()).ok()?))
}

/// A literal as a value of a type.
pub(super) enum Scalar {
    Text,
    Exact,
    Double(f64),
    Boolean,
    Day(i32),
    Instant(i64),
}

pub(super) fn scalar(kind: ColumnType, literal: &Literal) -> Option<Scalar> {
    match (kind, literal) {
        (ColumnType::String, Literal::Text(_)) => Some(Scalar::Text),
        (
            ColumnType::Int | ColumnType::Long | ColumnType::Decimal { .. },
            Literal::Number(digits),
        ) => {
            let (_, scale) = decimal(digits)?;
            // Beside it, the values must still fit a decimal.
            let most = if let ColumnType::Decimal { scale, .. } = kind { scale as i8 } else { 18 };
            (scale <= most).then_some(Scalar::Exact)
        }
        (ColumnType::Double, Literal::Number(digits)) => digits.parse().ok().map(Scalar::Double),
        (ColumnType::Boolean, Literal::Boolean(_)) => Some(Scalar::Boolean),
        (ColumnType::Date, Literal::Text(text)) => {
            let day = text.parse::<NaiveDate>().ok()?;
            Some(Scalar::Day((day - NaiveDate::default()).num_days() as i32))
        }
        (ColumnType::Timestamp, Literal::Text(text)) => {
            let instant = DateTime::parse_from_rfc3339(text).map(|it| it.timestamp_micros());
            let day = || text.parse::<NaiveDate>().ok();
            let midnight = || Some(day()?.and_time(NaiveTime::MIN).and_utc().timestamp_micros());
            instant.ok().or_else(midnight).map(Scalar::Instant)
        }
        _ => None,
    }
}
