//! Queries with their answers.

use maud::{Markup, html};

use super::super::facts::{Queries, Query, Report};
use super::{fault, told};
use crate::warehouse::Answer;

pub fn queries(report: &Report) -> Markup {
    let Some(queries) = &report.queries else {
        return html! { p.none { "There is no folder of queries." } };
    };
    let Queries { folder, asked, not_run, fault: failed } = queries;
    html! {
        p.soft { "Out of " code { (folder) } ", asked of the warehouse." }
        @if let Some(why) = failed { (fault(why)) }
        @if asked.is_empty() && not_run.is_empty() && failed.is_none() { p.none { "There is none." } }
        @for query in asked { (asked_query(query)) }
        @if !not_run.is_empty() {
            h4 { "Not run" }
            ul { @for file in not_run { li { code { (file) } } } }
        }
    }
}

fn asked_query(query: &Query) -> Markup {
    html! {
        article.card.query data-query=(query.file) {
            header { h3 { (query.file) } @if !query.about.is_empty() { span.soft { (query.about) } } }
            pre { (query.sql.trim()) }
            (told(&query.answer, answer))
        }
    }
}

fn answer(answer: &Answer) -> Markup {
    let class = |at: usize| if is_of_numbers(answer, at) { "number" } else { "" };
    html! {
        div.scroll {
            table {
                thead {
                    tr { @for (at, name) in answer.columns.iter().enumerate() { th class=(class(at)) { (name) } } }
                }
                tbody {
                    @for row in &answer.rows {
                        tr {
                            @for (at, value) in row.iter().enumerate() {
                                @match value {
                                    Some(value) => { td class=(class(at)) { (value) } },
                                    None => { td.none { "null" } },
                                }
                            }
                        }
                    }
                }
            }
        }
        p.soft {
            @if answer.more {
                "The first " (answer.rows.len()) " rows; there are more."
            } @else {
                (answer.rows.len()) " rows."
            }
        }
    }
}

/// Whether a column holds numbers and nulls, and is to be read from the right.
fn is_of_numbers(answer: &Answer, at: usize) -> bool {
    let is_number = |text: &String| text.parse::<f64>().is_ok_and(f64::is_finite);
    answer.rows.iter().filter_map(|row| row.get(at)?.as_ref()).all(is_number)
}
