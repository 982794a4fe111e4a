//! The page of installations that are made up.

use super::facts::*;
use super::page;
use crate::reads::Marks;
use crate::verify::Counted;
use crate::warehouse::{Answer, TableSize};

/// Breaks out of text, of attributes in either quotes, and of a title.
const EVIL: &str = "<script>alert(1)</script>\"'></title></svg>&";

fn empty() -> Report {
    Report {
        title: "An installation".to_owned(),
        version: "1.2.3",
        by: "local:ada".to_owned(),
        at_ms: 1_760_373_508_047,
        places: Places::default(),
        feeds: Vec::new(),
        waiting: Vec::new(),
        governance: Err("The node file has no `warehouse`.".to_owned()),
        chores: Vec::new(),
        runs: Ok(()),
        quarantine: Vec::new(),
        queries: None,
    }
}

/// Every text that comes from outside is this one.
fn full(text: &str) -> Report {
    let own = || text.to_owned();
    let last = RunFacts {
        node: own(),
        started_ms: 1,
        finished_ms: 2501,
        failed: true,
        done: vec![(own(), own())],
    };
    let lake = LakeFacts {
        version: Some(7),
        committed_ms: Some(1_760_373_508_047),
        files: 3,
        bytes: 4096,
        rows: Some(1_234_567),
        times: vec![TimeTotals { time: own(), rows: 5, bytes: 6 }],
        growth: vec![Point { at_ms: 1, rows: 5, bytes: 6 }],
    };
    let size = TableSize { rows: 42, guessed: false, bytes: Some(8192), newest_ms: None };
    let marks = Marks { lake: Some(11), warehouse: None };
    let feed = FeedFacts {
        name: own(),
        kind: "stream",
        description: Some(own()),
        topic: own(),
        enabled: false,
        settings: vec![("Values", own())],
        columns: Ok(vec![ColumnFacts { name: own(), kind: own(), path: own(), role: "key" }]),
        lake: Side::At(own(), Ok(Some(lake))),
        warehouse: Side::At(own(), Ok(Some(size))),
        marks: Ok(vec![MarkFacts { topic: own(), partition: 0, marks }]),
    };
    let broken = FeedFacts {
        lake: Side::At(own(), Err(own())),
        warehouse: Side::At(own(), Ok(None)),
        columns: Err(own()),
        marks: Err(own()),
        ..feed.clone()
    };
    let permission = PermissionFacts {
        id: own(),
        sentence: own(),
        granted_by: own(),
        reason: own(),
        expired: true,
    };
    let denial = Denial {
        principal: own(),
        action: own(),
        feed: Some(own()),
        why: own(),
        times: 9,
        last_ms: 1,
    };
    let governance = Governance {
        rows: vec![permission],
        more: 3,
        faults: vec![(own(), own())],
        denials: vec![denial],
        looked_at: 9,
        older: true,
    };
    let counted =
        Counted { feed: own(), class: own(), state: "open".to_owned(), records: 17, reason: own() };
    let answer = Answer {
        columns: vec![own(), own()],
        rows: vec![vec![Some(own()), None], vec![Some(own()), Some("12.50".to_owned())]],
        more: true,
    };
    let query = |answer| Query { file: own(), about: own(), sql: own(), answer };
    Report {
        title: own(),
        by: own(),
        places: Places {
            kafka: own(),
            group: own(),
            lake: Some(own()),
            warehouse: Some(own()),
            registry: Some(own()),
            api: Some(own()),
        },
        feeds: vec![feed, broken],
        waiting: vec![(own(), own())],
        governance: Ok(governance),
        chores: vec![ChoreFacts { name: "vacuum", schedule: own(), last: Some(last) }],
        runs: Err(own()),
        quarantine: vec![("lake", Ok(vec![counted])), ("warehouse", Err(own()))],
        queries: Some(Queries {
            folder: own(),
            asked: vec![query(Ok(answer)), query(Err(own()))],
            not_run: vec![own()],
            fault: Some(own()),
        }),
        ..empty()
    }
}

/// The page's tags, each whole; text between them holds no `<`.
fn tags(page: &str) -> Vec<&str> {
    let style = page.find("<style>").unwrap()..page.find("</style>").unwrap();
    let starts = page.match_indices('<').filter(|(at, _)| !style.contains(&(at + 1)));
    starts.map(|(at, _)| &page[at..=at + page[at..].find('>').unwrap()]).collect()
}

/// Names of tags in the order in which they stand.
fn names(page: &str) -> Vec<String> {
    let name = |tag: &&str| {
        tag.trim_start_matches(['<', '/']).split([' ', '>']).next().unwrap().to_owned()
    };
    tags(page).iter().map(name).collect()
}

#[test]
fn whatever_comes_from_outside_is_text() {
    let (plain, evil) = (page(&full("plain")), page(&full(EVIL)));
    assert_eq!(names(&evil), names(&plain));
    assert!(!evil.contains("<script") && !plain.contains("script"));
    // It is there, wherever it was put.
    let escaped = evil.matches("&lt;script&gt;alert(1)").count();
    assert!(escaped > 80, "{escaped}");
    assert_eq!(evil.matches("alert(1)").count(), escaped);
}

#[test]
fn the_file_needs_nothing_beside_itself() {
    let page = page(&full("https://example.org/x.png"));
    for tag in tags(&page) {
        for attribute in
            ["src=", "srcset=", "xlink", "data=", "action=", "style=", "onload", "onclick"]
        {
            assert!(!tag.contains(&format!(" {attribute}")), "{tag}");
        }
        if let Some((_, address)) = tag.split_once("href=\"") {
            assert!(address.starts_with('#'), "{tag}");
        }
    }
    for name in ["script", "link", "img", "image", "iframe", "object", "use", "base", "form"] {
        assert!(!names(&page).iter().any(|it| it == name), "{name}");
    }
    let style = &page[page.find("<style>").unwrap()..page.find("</style>").unwrap()];
    assert!(!style.contains("url(") && !style.contains("@import"));
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn an_installation_without_anything_has_a_page() {
    let page = page(&empty());
    for said in ["There is no feed.", "no `warehouse`", "There is no sink.", "no folder of queries"]
    {
        assert!(page.contains(said), "{said}");
    }
    assert!(page.contains("data-figure=\"lake-rows\" data-value=\"0\""));
}

#[test]
fn figures_stand_beside_what_people_read() {
    let page = page(&full("a"));
    for said in [
        "data-lake-rows=\"1234567\" data-lake-files=\"3\" data-lake-bytes=\"4096\"",
        "1,234,567 rows in 3 files of 4.00 KiB together, of a, version 7",
        "data-table=\"a\" data-warehouse-rows=\"42\"",
        "data-lake-mark=\"11\"",
        "data-quarantined=\"17\"",
        "The first 2 rows; there are more.",
        "<td class=\"number\">12.50</td>",
        "<td class=\"none\">null</td>",
        // Of one feed nothing is known.
        "data-figure=\"lake-rows\" data-value=\"1234567\">1,234,567 +?</b>",
        "data-figure=\"warehouse-rows\" data-value=\"42\">42</b>",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(!page.contains("data-warehouse-mark"), "nothing is known to be durable there");
}

/// The page of a lake with these times and commits.
fn charts(times: usize, commits: usize) -> String {
    let mut report = full("a");
    report.feeds.truncate(1);
    let facts = LakeFacts {
        times: (0..times)
            .map(|at| TimeTotals { time: format!("t{at}"), rows: at as u64 * 10, bytes: 0 })
            .collect(),
        growth: (0..commits)
            .map(|at| Point { at_ms: at as i64 * 60_000, rows: 0, bytes: at as u64 * 7 })
            .collect(),
        ..LakeFacts::default()
    };
    report.feeds[0].lake = Side::At("a".to_owned(), Ok(Some(facts)));
    page(&report)
}

#[test]
fn charts_are_drawn_of_nothing_of_one_value_and_of_many() {
    for (count, bars) in [(0, 0), (1, 1), (2, 2), (62, 62)] {
        let page = charts(count, count);
        assert_eq!(page.matches("class=\"lake bar\"").count(), bars, "{count}");
        assert_eq!(page.matches("Nothing yet.").count(), if count == 0 { 2 } else { 0 });
        assert_eq!(page.matches("<circle").count(), count.min(1));
        assert!(!page.contains("NaN") && !page.contains("inf"), "{count}");
    }
    // The greatest reaches the top, and the line ends there.
    let page = charts(3, 3);
    assert!(page.contains("y=\"22.0\"") && page.contains("V22.0\""), "{page}");
    assert!(page.contains("t0") && page.contains("t2: 20"));
    assert!(page.contains("1970-01-01 00:02"));
}
