//! Which sinks a node serves.

use super::FeedFile;

/// A partial node serves one sink, in a consumer group of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// Both sinks, in the group that `kafka.group` names.
    #[default]
    All,
    /// The lake alone, in `<group>-lake`.
    Lake,
    /// The warehouse alone, in `<group>-warehouse`.
    Warehouse,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::All, Mode::Lake, Mode::Warehouse];

    pub fn name(self) -> &'static str {
        match self {
            Mode::All => "all",
            Mode::Lake => "lake",
            Mode::Warehouse => "warehouse",
        }
    }

    /// The group of such nodes, where whole ones are in `group`.
    pub fn group(self, group: &str) -> String {
        match self {
            Mode::All => group.to_owned(),
            partial => format!("{group}-{}", partial.name()),
        }
    }

    /// The Kafka client's id of such a node: how another one in its group knows it.
    pub fn client_id(self, client_id: &str) -> String {
        match self {
            Mode::All => client_id.to_owned(),
            partial => format!("{client_id}.{}-only", partial.name()),
        }
    }

    /// The mode of the node that has this Kafka client's id.
    pub fn of_client(client_id: &str) -> Self {
        let partial = [Mode::Lake, Mode::Warehouse].into_iter();
        let mut partial =
            partial.filter(|mode| client_id.ends_with(&format!(".{}-only", mode.name())));
        partial.next().unwrap_or(Mode::All)
    }

    /// Leaves of the feeds what such a node serves.
    pub fn narrow(self, mut feeds: Vec<FeedFile>) -> Vec<FeedFile> {
        for feed in &mut feeds {
            feed.is_partial = self != Mode::All;
            match self {
                Mode::All => {}
                Mode::Lake => feed.warehouse = None,
                Mode::Warehouse => feed.lake = None,
            }
        }
        feeds.retain(|feed| feed.lake.is_some() || feed.warehouse.is_some());
        feeds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_its_client_id() {
        for mode in Mode::ALL {
            assert_eq!(Mode::of_client(&mode.client_id("my-data-lake")), mode);
        }
        assert_eq!(Mode::Lake.group("consumers"), "consumers-lake");
        assert_eq!(Mode::All.group("data-lake"), "data-lake");
    }

    #[test]
    fn a_partial_node_has_only_feeds_of_its_sink() {
        let feed = |text: &str| serde_json::from_str::<FeedFile>(text).unwrap();
        let feeds = [
            feed(r#"{"feed": "a", "type": "stream", "topic": "a"}"#),
            feed(r#"{"feed": "b", "type": "stream", "topic": "b", "lake": null}"#),
        ];
        let named = |mode: Mode| -> Vec<(String, bool, bool)> {
            let feeds = mode.narrow(feeds.to_vec()).into_iter();
            feeds.map(|it| (it.feed, it.lake.is_some(), it.warehouse.is_some())).collect()
        };
        assert_eq!(named(Mode::Lake), [("a".to_owned(), true, false)]);
        let both = [("a".to_owned(), false, true), ("b".to_owned(), false, true)];
        assert_eq!(named(Mode::Warehouse), both);
        assert_eq!(named(Mode::All).len(), 2);
    }
}
