//! Who may see what, what is done when, and what became no row.

use maud::{Markup, html};

use super::super::facts::{ChoreFacts, Denial, Governance, PermissionFacts, Report, RunFacts};
use super::{count, told};
use crate::grants::instant;
use crate::verify::{Counted, shortened};

pub fn governance(report: &Report) -> Markup {
    told(&report.governance, |governance| {
        html! {
            h4 { "Permission rows" }
            p.soft { "What no row allows is denied, and so is what any row denies." }
            @if governance.rows.is_empty() {
                p.none { "There is no row: everything is denied." }
            } @else {
                (permissions(&governance.rows))
            }
            @if governance.more > 0 { p.soft { "And " (governance.more) " more." } }
            @for (name, why) in &governance.faults { p.fault { (name) ": " (why) } }
            h4 { "Denied of late" }
            (denials(governance))
        }
    })
}

fn permissions(rows: &[PermissionFacts]) -> Markup {
    html! {
        div.card.scroll {
            table {
                thead { tr { th { "Row" } th { "Says" } th { "Given by" } th { "Reason" } } }
                tbody {
                    @for row in rows {
                        tr data-permission=(row.id) {
                            td { (row.id) }
                            td { (row.sentence) @if row.expired { " " span.tag { "expired" } } }
                            td { (row.granted_by) }
                            td { (row.reason) }
                        }
                    }
                }
            }
        }
    }
}

fn denials(governance: &Governance) -> Markup {
    html! {
        @if governance.denials.is_empty() {
            p.none { "Nothing was denied." }
        } @else {
            div.card.scroll {
                table {
                    thead {
                        tr {
                            th.number { "Times" } th { "Who" } th { "Wanted" } th { "Why not" } th { "Last" }
                        }
                    }
                    tbody {
                        @for Denial { principal, action, feed, why, times, last_ms } in &governance.denials {
                            tr data-denied=(times) {
                                td.number { (count(*times)) }
                                td { (principal) }
                                td { (action) " " (feed.as_deref().unwrap_or_default()) }
                                td { (why) }
                                td { (instant(*last_ms)) }
                            }
                        }
                    }
                }
            }
            p.soft {
                "Of the last " (governance.looked_at) " that the audit has"
                @if governance.older { "; there may be more" }
                "."
            }
        }
    }
}

pub fn schedule(report: &Report) -> Markup {
    html! {
        (told(&report.runs, |()| html! {}))
        div.card.scroll {
            table {
                thead { tr { th { "Chore" } th { "When" } th { "Last run" } th { "What it did" } } }
                tbody { @for chore in &report.chores { (chore_row(chore)) } }
            }
        }
    }
}

fn chore_row(chore: &ChoreFacts) -> Markup {
    html! {
        tr data-chore=(chore.name) {
            td { (chore.name) }
            td { (chore.schedule) }
            @match &chore.last {
                None => { td.none { "never" } td {} },
                Some(run) => {
                    td { (instant(run.finished_ms)) br; span.soft { "by " (run.node) } }
                    td { (done(run)) }
                },
            }
        }
    }
}

fn done(run: &RunFacts) -> Markup {
    let took = (run.finished_ms - run.started_ms).max(0) as f64 / 1000.0;
    html! {
        @if run.failed { span.tag.bad { "failed" } " " }
        @if run.done.is_empty() { span.soft { "nothing to do" } }
        @for (name, what) in &run.done { div { b { (name) } ": " (what) } }
        span.soft { " " (format!("{took:.1} s")) }
    }
}

pub fn quarantine(report: &Report) -> Markup {
    html! {
        @if report.quarantine.is_empty() { p.none { "There is no sink." } }
        @for (sink, counts) in &report.quarantine {
            h4 { "In the " (sink) }
            (told(counts, |counts| counted(sink, counts)))
        }
        @if report.quarantine.iter().any(|(_, it)| it.as_ref().is_ok_and(|it| !it.is_empty())) {
            p.soft { "A record that could not be decoded is in the quarantine of both sinks." }
        }
    }
}

fn counted(sink: &str, counts: &[Counted]) -> Markup {
    if counts.is_empty() {
        return html! { p.none { "Nothing." } };
    }
    html! {
        div.card.scroll {
            table {
                thead {
                    tr {
                        th { "Feed" } th { "Reason" } th { "State" } th.number { "Records" } th { "For example" }
                    }
                }
                tbody {
                    @for Counted { feed, class, state, records, reason } in counts {
                        tr data-quarantined=(records) data-sink=(sink) data-class=(class) data-of=(feed) {
                            td { (feed) }
                            td { (class) }
                            td { (state) }
                            td.number { (count(*records)) }
                            td.soft { (shortened(reason.as_bytes(), 160)) }
                        }
                    }
                }
            }
        }
    }
}
