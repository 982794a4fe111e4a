//! Which rows: a small part of SQL over a feed's columns.
//!
//! Comparisons of a column with a literal (`=`, `<>`, `<`, `<=`, `>`, `>=`), `IN`, `BETWEEN`, `IS [NOT] NULL`,
//! joined by `AND`, `OR`, `NOT`. With three truth values, as in SQL. Texts compare by their bytes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    Compare { column: String, comparison: Comparison, literal: Literal },
    In { column: String, literals: Vec<Literal> },
    IsNull { column: String },
    Not(Box<Predicate>),
    And(Box<Predicate>, Box<Predicate>),
    Or(Box<Predicate>, Box<Predicate>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Text(String),
    /// Its digits as they stand.
    Number(String),
    Boolean(bool),
}

/// Longest text, and deepest nesting, of a predicate.
const MOST_BYTES: usize = 10_000;
const MOST_LEVELS: usize = 50;
/// Most literals behind one `IN`.
const MOST_LITERALS: usize = 1_000;

impl Predicate {
    /// The columns it reads.
    pub fn columns(&self) -> BTreeSet<&str> {
        let mut columns = BTreeSet::new();
        self.visit(&mut |column| {
            columns.insert(column);
        });
        columns
    }

    fn visit<'p>(&'p self, see: &mut impl FnMut(&'p str)) {
        match self {
            Self::Compare { column, .. } | Self::In { column, .. } | Self::IsNull { column } => {
                see(column);
            }
            Self::Not(inner) => inner.visit(see),
            Self::And(one, other) | Self::Or(one, other) => {
                one.visit(see);
                other.visit(see);
            }
        }
    }
}

impl Predicate {
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("a predicate of {} bytes; at most {MOST_BYTES}", text.len()));
        }
        let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(MOST_LEVELS);
        let mut parser = parser.try_with_sql(text).map_err(|error| error.to_string())?;
        let parsed = parser.parse_expr().map_err(|error| error.to_string())?;
        let rest = parser.peek_token().token;
        if rest != Token::EOF {
            return Err(format!("`{rest}` is not expected there"));
        }
        of(&parsed)
    }
}

impl FromStr for Predicate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let predicate = Self::parse(text)?;
        // It is kept as it prints, and must be read again from there.
        match Self::parse(&predicate.to_string()) {
            Ok(_) => Ok(predicate),
            Err(error) => Err(format!("too long or too deep to be kept: {error}")),
        }
    }
}

fn of(expr: &Expr) -> Result<Predicate, String> {
    match expr {
        Expr::Nested(inner) => of(inner),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Ok(not(of(expr)?)),
        Expr::IsNull(expr) => Ok(Predicate::IsNull { column: column(expr)? }),
        Expr::IsNotNull(expr) => Ok(not(Predicate::IsNull { column: column(expr)? })),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            Ok(Predicate::And(Box::new(of(left)?), Box::new(of(right)?)))
        }
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
            Ok(Predicate::Or(Box::new(of(left)?), Box::new(of(right)?)))
        }
        Expr::BinaryOp { left, op, right } => {
            let comparison = comparison(op).ok_or_else(|| unknown(expr))?;
            match column(left) {
                Ok(column) => {
                    Ok(Predicate::Compare { column, comparison, literal: literal(right)? })
                }
                Err(_) => Ok(Predicate::Compare {
                    column: column(right)?,
                    comparison: comparison.turned(),
                    literal: literal(left)?,
                }),
            }
        }
        Expr::Between { expr, negated, low, high } => {
            let column = column(expr)?;
            let bound = |comparison, bound| {
                let (column, literal) = (column.clone(), literal(bound)?);
                Ok::<_, String>(Box::new(Predicate::Compare { column, comparison, literal }))
            };
            let low = bound(Comparison::GreaterOrEqual, low)?;
            let both = Predicate::And(low, bound(Comparison::LessOrEqual, high)?);
            Ok(if *negated { not(both) } else { both })
        }
        Expr::InList { expr, list, negated } => {
            if list.len() > MOST_LITERALS {
                return Err(format!("{} values behind IN; at most {MOST_LITERALS}", list.len()));
            }
            let literals = list.iter().map(literal).collect::<Result<_, _>>()?;
            let within = Predicate::In { column: column(expr)?, literals };
            Ok(if *negated { not(within) } else { within })
        }
        // A boolean column by itself.
        Expr::Identifier(name) => Ok(Predicate::Compare {
            column: name.value.clone(),
            comparison: Comparison::Equal,
            literal: Literal::Boolean(true),
        }),
        _ => Err(unknown(expr)),
    }
}

fn not(inner: Predicate) -> Predicate {
    Predicate::Not(Box::new(inner))
}

fn comparison(op: &BinaryOperator) -> Option<Comparison> {
    Some(match op {
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn column(expr: &Expr) -> Result<String, String> {
    match expr {
        Expr::Identifier(name) => Ok(name.value.clone()),
        Expr::Nested(inner) => column(inner),
        _ => Err(format!("`{expr}` is no column; compare a column with a literal")),
    }
}

fn literal(expr: &Expr) -> Result<Literal, String> {
    let negative = |number: String| match number.strip_prefix('-') {
        Some(number) => number.to_owned(),
        None => format!("-{number}"),
    };
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Ok(Literal::Text(text.clone())),
            Value::Number(digits, _) => Ok(Literal::Number(digits.clone())),
            Value::Boolean(value) => Ok(Literal::Boolean(*value)),
            _ => Err(format!("`{expr}` is no literal: 'text', a number, true or false")),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match literal(expr)? {
            Literal::Number(digits) => Ok(Literal::Number(negative(digits))),
            _ => Err(format!("-{expr} is no number")),
        },
        Expr::Nested(inner) => literal(inner),
        _ => Err(format!("`{expr}` is no literal: 'text', a number, true or false")),
    }
}

fn unknown(expr: &Expr) -> String {
    format!(
        "`{expr}` is not understood: comparisons of a column with a literal, IN, BETWEEN and IS NULL, \
         joined by AND, OR and NOT"
    )
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compare { column, comparison, literal } => {
                write!(f, "{} {} {literal}", ident(column), comparison.sql())
            }
            Self::In { column, literals } => {
                let literals: Vec<String> = literals.iter().map(Literal::to_string).collect();
                write!(f, "{} IN ({})", ident(column), literals.join(", "))
            }
            Self::IsNull { column } => write!(f, "{} IS NULL", ident(column)),
            Self::Not(inner) => write!(f, "NOT ({inner})"),
            // Chains are flat, however long: what is in parentheses is nested when it is read.
            Self::And(one, other) => {
                let part = |part: &Self| match part {
                    Self::Or(..) => format!("({part})"),
                    _ => part.to_string(),
                };
                write!(f, "{} AND {}", part(one), part(other))
            }
            Self::Or(one, other) => write!(f, "{one} OR {other}"),
        }
    }
}

/// An identifier in quotes, whatever is in it.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Number(digits) => f.write_str(digits),
            Self::Boolean(value) => write!(f, "{value}"),
        }
    }
}

impl Serialize for Predicate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Predicate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
