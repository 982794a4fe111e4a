//! Which offsets something was of, in few words.

/// Offsets of one partition that follow each other, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub topic: String,
    pub partition: i32,
    pub first: i64,
    pub last: i64,
}

impl Span {
    pub fn one(topic: String, partition: i32, offset: i64) -> Self {
        Self { topic, partition, first: offset, last: offset }
    }
}

/// The same offsets in fewer spans. An offset that comes twice, as those of a topic made again do, is in two of
/// them still.
pub fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    // Spans of the present partition that one may be joined to: as many as offsets come at once.
    let mut open: Vec<usize> = Vec::new();
    for span in spans {
        open.retain(|index| {
            let known = &joined[*index];
            known.topic == span.topic
                && known.partition == span.partition
                && known.last >= span.first - 1
        });
        match open.iter().find(|index| joined[**index].last == span.first - 1) {
            Some(index) => joined[*index].last = span.last,
            None => {
                open.push(joined.len());
                joined.push(span);
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(partition: i32, first: i64, last: i64) -> Span {
        Span { topic: "t".to_owned(), partition, first, last }
    }

    #[test]
    fn what_follows_each_other_is_one_and_what_comes_twice_is_two() {
        let of = |offsets: &[i64]| {
            joined(offsets.iter().map(|at| Span::one("t".to_owned(), 0, *at)).collect())
        };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[3, 1, 2, 5]), [span(0, 1, 3), span(0, 5, 5)]);
        assert_eq!(of(&[1, 2, 2, 3]), [span(0, 1, 3), span(0, 2, 2)]);
        let apart = vec![span(0, 0, 4), span(1, 5, 6), span(0, 5, 9)];
        assert_eq!(joined(apart), [span(0, 0, 9), span(1, 5, 6)]);
    }

    proptest! {
        #[test]
        fn no_offset_is_added_or_left_out(
            spans in prop::collection::vec((0..2i32, 0..30i64, 0..5i64), 0..40),
        ) {
            let spans: Vec<Span> =
                spans.into_iter().map(|(of, first, more)| span(of, first, first + more)).collect();
            let offsets = |spans: &[Span]| {
                let mut all: Vec<(i32, i64)> = spans
                    .iter()
                    .flat_map(|it| (it.first..=it.last).map(move |at| (it.partition, at)))
                    .collect();
                all.sort_unstable();
                all
            };
            let joined = joined(spans.clone());
            prop_assert_eq!(offsets(&joined), offsets(&spans));
            prop_assert!(joined.len() <= spans.len());
        }
    }
}
