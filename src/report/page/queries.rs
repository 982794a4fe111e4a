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
    html! {
        div.scroll {
            table {
                thead { tr { @for name in &answer.columns { th { (name) } } } }
                tbody {
                    @for row in &answer.rows {
                        tr {
                            @for value in row {
                                @match value {
                                    Some(value) if is_number(value) => { td.number { (value) } },
                                    Some(value) => { td { (value) } },
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

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}
