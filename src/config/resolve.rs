//! From the feed file to the feed that runs: one topic, its columns known.

use regex::Regex;

use super::check::{self, MAX_IDENTIFIER, TOPIC};
use super::check_columns::{column_faults, flat_fault, time_column};
use super::files::file_faults;
use super::kept::joined;
use super::{
    Case, Column, ColumnType, Evolve, Fault, Feed, FeedFile, Key, KeyFormat, LakeOptions, NestedIn,
    REST_COLUMN, Schema, Shape, ValueFormat, WarehouseOptions, WindowColumns,
};

impl FeedFile {
    /// Whether the feed reads this topic. Compiles `topics` anew: for many topics, use
    /// [`FeedFile::topic_pattern`].
    pub fn matches(&self, topic: &str) -> bool {
        match &self.topic {
            Some(_) => self.topic_names().any(|own| own == topic),
            None => self.topic_pattern().is_some_and(|pattern| pattern.is_match(topic)),
        }
    }

    /// What the one topic may be named; empty with `topics`.
    pub fn topic_names(&self) -> impl Iterator<Item = &str> {
        self.topic.as_deref().into_iter().chain(self.topic_in_upper_case.as_deref())
    }

    /// What the one topic may be named instead of `topic`. If both exist, nobody knows which is meant.
    pub fn other_name(&self, topic: &str) -> Option<&str> {
        self.topic_in_upper_case.as_ref()?;
        self.topic_names().find(|name| *name != topic)
    }

    /// The table's name where one topic is read: the feed's own name, unless another is given.
    pub fn own_table(&self, options: &WarehouseOptions) -> String {
        options.table.clone().unwrap_or_else(|| self.feed.replace('-', "_"))
    }

    /// Whether both files make the same feed, wherever they lie.
    pub fn is_same_as(&self, other: &Self) -> bool {
        Self { file: other.file.clone(), ..self.clone() } == *other
    }

    /// `topics` as a pattern that matches whole names.
    pub fn topic_pattern(&self) -> Option<Regex> {
        // In a group: `^a|b` anchors each branch.
        Regex::new(&format!("^(?:{})$", self.topics.as_ref()?)).ok()
    }

    /// The name of the feed for one topic.
    pub fn name_for(&self, topic: &str) -> Result<String, Fault> {
        let name = self.feed.replace(TOPIC, &word(topic));
        if check::valid_feed_name(&name) {
            return Ok(name);
        }
        let allowed = "a feed name of at most 200 bytes for this topic";
        Err(self.fault("feed", format!("`{name}`"), allowed))
    }

    /// The feed for one topic. `inferred` are the value's columns where the file names none, and those
    /// beside the ones it names where the feed evolves.
    pub fn resolve(&self, topic: &str, inferred: Option<Vec<Column>>) -> Result<Feed, Fault> {
        let name = self.name_for(topic)?;
        let mut warehouse = self.warehouse.clone();
        if let Some(table) = warehouse.as_mut().and_then(|options| options.table.as_mut()) {
            let word = match self.case {
                Case::Lower => word(topic),
                Case::Keep => topic.replace(|c| !check::plain(c), "_"),
            };
            *table = self.case.table(&table.replace(TOPIC, &word.replace('-', "_")));
        }
        for dimension in warehouse.iter_mut().flat_map(|options| &mut options.dimensions) {
            dimension.table = self.case.table(&dimension.table);
        }
        let schema = self.schema(topic, inferred)?;
        if let Some(options) = &self.lake
            && let Some(fault) = file_faults(self, options, Some(&schema.columns)).pop()
        {
            return Err(fault);
        }
        let feed = Feed {
            name: name.into(),
            kind: self.kind,
            topic: topic.into(),
            start: self.start,
            on_gap: self.on_gap,
            schema,
            lake: self.lake.clone(),
            warehouse,
            quarantine: self.quarantine.clone(),
        };
        self.check_table(&feed)?;
        self.check_flat_names(&feed)?;
        Ok(feed)
    }

    fn schema(&self, topic: &str, inferred: Option<Vec<Column>>) -> Result<Schema, Fault> {
        let declared = self.columns.is_some();
        // Of a sink that the node does not serve it cannot say what it takes. Versions of a table that are
        // kept have its types.
        let versions = self.warehouse.as_ref().is_some_and(|options| options.snapshots.is_some());
        let widen = !self.is_partial
            && !versions
            && self.lake.as_ref().is_none_or(LakeOptions::takes_wider);
        let evolve = Evolve { nesting: self.nested, case: self.case, widen };
        let evolve = self.evolves().then_some(evolve);
        let value = match (self.value_columns(), inferred) {
            (Some(own), Some(kept)) if evolve.is_some() => Some(joined(own, kept)),
            (own, inferred) => own.or(inferred),
        };
        let Some(value) = value else {
            let found = format!("nothing, and no record of `{topic}` to infer columns from");
            return Err(self.fault("columns", found, "a list of columns, or a record to read"));
        };
        if let Some((field, found, allowed)) =
            column_faults(self.key.as_ref(), Some(&value)).into_iter().next()
        {
            let mut fault = self.fault(&field, found, allowed);
            if !declared {
                fault.remedy = Some(
                    "the columns were inferred: list them under `columns`, or name the key column \
                     otherwise"
                        .into(),
                );
            }
            return Err(fault);
        }
        let key = self.key.as_ref();
        let inner = key.map(|key| key.columns.as_slice()).unwrap_or_default();
        let windowed = key.map(Key::window_columns).unwrap_or_default();
        let window = key.filter(|_| !windowed.is_empty()).map(|key| WindowColumns {
            kind: key.window,
            start: inner.len(),
            count: windowed.len(),
            size_ms: key.window_size.map(|size| size.get().as_millis() as i64),
        });
        let key_columns = inner.len() + key.map_or(0, Key::window_keys);
        let required = inner.iter().map(|column| Column { required: true, ..column.clone() });
        let rest = self.rest.then(|| Column::new(REST_COLUMN, ColumnType::Json));
        let columns: Vec<Column> = required.chain(windowed).chain(value).chain(rest).collect();
        let time = match &self.time {
            Some(time) => Some(self.time_index(time, &columns)?),
            None => None,
        };
        let of_lake = self.lake.as_ref().and_then(|options| options.time.as_ref());
        if let Some((found, allowed, meant)) = of_lake.and_then(|time| time.unfit(&columns)) {
            return Err(self.fault("lake.time", found, allowed).nearest(meant));
        }
        let key_format = key.map_or(KeyFormat::None, |key| key.format);
        Ok(Schema {
            key_format,
            value_format: self.format,
            columns,
            key_columns,
            window,
            rest: self.rest,
            time,
            evolve,
            left_out: Vec::new(),
        })
    }

    /// Whether fields that no column takes become columns.
    pub fn evolves(&self) -> bool {
        // A document holds every field there is.
        let documents = self.warehouse.as_ref().is_some_and(|it| it.shape == Shape::Document);
        let has_columns = self.lake.is_some() || !documents;
        self.format.has_fields() && has_columns && self.evolve.unwrap_or(self.columns.is_none())
    }

    /// The value's columns, where they need not be inferred.
    pub fn value_columns(&self) -> Option<Vec<Column>> {
        let whole = match self.format {
            ValueFormat::String => Some(ColumnType::String),
            ValueFormat::Bytes => Some(ColumnType::Bytes),
            ValueFormat::Json | ValueFormat::Connect | ValueFormat::Avro => None,
        };
        let none = self.lake.is_none()
            && self.warehouse.as_ref().is_some_and(|options| options.shape == Shape::Document);
        let unnamed = || match whole {
            Some(whole) => Some(vec![Column::new("value", whole)]),
            // Nobody would read what was inferred.
            None => none.then(Vec::new),
        };
        self.columns.clone().or_else(unnamed)
    }

    fn time_index(&self, time: &str, columns: &[Column]) -> Result<usize, Fault> {
        time_column(time, columns)
            .map_err(|(found, allowed, meant)| self.fault("time", found, allowed).nearest(meant))
    }

    fn check_table(&self, feed: &Feed) -> Result<(), Fault> {
        let (_, table) = feed.table();
        if feed.warehouse.is_none() || table.len() <= MAX_IDENTIFIER {
            return Ok(());
        }
        let found = format!("`{table}`, {} bytes, for topic `{}`", table.len(), feed.topic);
        Err(self
            .fault("warehouse.table", found, "a table name of at most 63 bytes")
            .remedy("give this topic a feed file of its own, with a shorter `table`"))
    }

    /// The fields of structs as columns of a table: names that it can hold, each once.
    fn check_flat_names(&self, feed: &Feed) -> Result<(), Fault> {
        if feed.warehouse.as_ref().is_none_or(|options| options.nested != NestedIn::Columns) {
            return Ok(());
        }
        match flat_fault(&feed.schema.columns) {
            Some((found, allowed, remedy)) => {
                Err(self.fault("warehouse.nested", found, allowed).remedy(remedy))
            }
            None => Ok(()),
        }
    }

    fn fault(&self, field: &str, found: impl Into<Box<str>>, allowed: impl Into<String>) -> Fault {
        Fault::new(&self.file, field, found, allowed)
    }
}

/// A topic's name as a part of a feed's name: what such a name cannot hold becomes `_`.
fn word(topic: &str) -> String {
    topic
        .to_lowercase()
        .replace(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c)), "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> FeedFile {
        serde_saphyr::from_str(text).unwrap()
    }

    fn column(name: &str, kind: ColumnType) -> Column {
        Column::new(name, kind)
    }

    #[test]
    fn topics_match_whole() {
        let one = parsed("{feed: a, type: stream, topic: t.x}");
        assert!(one.matches("t.x") && !one.matches("t.xy") && !one.matches("tax"));
        let many = parsed("{feed: '{topic}', type: stream, topics: '^raw\\.[a-z]+|^cooked'}");
        for (topic, expected) in [
            ("raw.a", true),
            ("raw.a1", false),
            ("cooked", true),
            ("cooked2", false),
            ("xcooked", false),
        ] {
            assert_eq!(many.matches(topic), expected, "{topic}");
        }
    }

    #[test]
    fn a_feed_takes_its_names_from_the_topic() {
        let file = parsed(
            "{feed: 'raw-{topic}', type: stream, topics: '^.*', columns: [{name: a, type: int}], \
             warehouse: {table: 'raw.{topic}'}}",
        );
        let feed = file.resolve("Shop.Sales-EU", None).unwrap();
        assert_eq!(&*feed.name, "raw-shop_sales-eu");
        assert_eq!(&*feed.topic, "Shop.Sales-EU");
        assert_eq!(feed.table(), (Some("raw".to_owned()), "shop_sales_eu".to_owned()));
        let long = "x".repeat(64);
        assert_eq!(file.resolve(&long, None).unwrap_err().field, "warehouse.table");
    }

    #[test]
    fn the_schema_is_key_then_value() {
        let file = parsed(
            "{feed: a, type: table, topic: t, time: at, \
             key: {format: json, columns: [{name: id, type: long}]}, \
             columns: [{name: v, type: int}, {name: at, type: timestamp}]}",
        );
        let schema = file.resolve("t", None).unwrap().schema;
        assert_eq!(schema.key_format, KeyFormat::Json);
        assert_eq!((schema.key_columns, schema.time), (1, Some(2)));
        assert!(schema.key()[0].required && !schema.value()[0].required);
    }

    #[test]
    fn a_window_becomes_columns_behind_the_key() {
        let names = |key: &str| {
            let file = parsed(&format!(
                "{{feed: a, type: table, topic: t, rest: true, columns: [{{name: v, type: int}}], \
                 key: {{format: string, columns: [{{name: id, type: string}}], {key}}}}}"
            ));
            let schema = file.resolve("t", None).unwrap().schema;
            let names: Vec<_> = schema.columns.iter().map(|column| column.name.clone()).collect();
            (names.join(" "), schema.key_columns, schema.from_key(), schema.inner_key())
        };
        for (key, expected) in [
            ("window: none", ("id v _rest", 1, 1, 1)),
            ("window: time", ("id window_start v _rest", 2, 2, 1)),
            ("window: time, window_size: 1m", ("id window_start window_end v _rest", 2, 3, 1)),
            ("window: session", ("id window_start window_end v _rest", 3, 3, 1)),
            ("window: store", ("id window_start v _rest", 2, 2, 1)),
            ("window: time, window_in_key: false", ("id window_start v _rest", 1, 2, 1)),
        ] {
            let (columns, keys, from_key, inner) = names(key);
            assert_eq!((columns.as_str(), keys, from_key, inner), expected, "{key}");
        }
    }

    #[test]
    fn columns_come_from_the_file_or_are_inferred() {
        let file = parsed("{feed: a, type: stream, topic: t, time: at}");
        assert_eq!(file.resolve("t", None).unwrap_err().field, "columns");
        let inferred = vec![column("at", ColumnType::Timestamp), column("b", ColumnType::Int)];
        let schema = file.resolve("t", Some(inferred)).unwrap().schema;
        assert_eq!(
            (schema.columns.len(), schema.time, schema.key_format),
            (2, Some(0), KeyFormat::None)
        );
        let fault = file.resolve("t", Some(vec![column("b", ColumnType::Int)])).unwrap_err();
        assert_eq!(fault.field, "time");
    }

    #[test]
    fn kept_columns_join_those_of_a_feed_that_evolves() {
        let names = |extra: &str| {
            let text = format!("{{feed: a, type: stream, topic: t, {extra}}}");
            let kept = vec![column("b", ColumnType::Int)];
            let schema = parsed(&text).resolve("t", Some(kept)).unwrap().schema;
            let names: Vec<_> = schema.columns.iter().map(|column| column.name.clone()).collect();
            (names.join(" "), schema.evolve)
        };
        let declared = "columns: [{name: a, type: int}]";
        assert_eq!(names(declared), ("a".to_owned(), None));
        let flatten = Some(Evolve::default());
        assert_eq!(names(&format!("{declared}, evolve: true")), ("a b".to_owned(), flatten));
        assert_eq!(names("rest: false"), ("b".to_owned(), flatten));
        assert_eq!(names("evolve: false"), ("b".to_owned(), None));
    }

    #[test]
    fn flattened_names_are_checked() {
        let fault = |columns: &str| {
            let text = format!(
                "{{feed: a, type: stream, topic: t, columns: {columns}, warehouse: {{nested: columns}}}}"
            );
            parsed(&text).resolve("t", None).err().map(|fault| fault.to_string())
        };
        let place = "{name: place, type: 'struct<CITY:string,zip:string>'}";
        assert_eq!(fault(&format!("[{place}]")), None);
        let twice = fault(&format!("[{{name: place_city, type: int}}, {place}]")).unwrap();
        assert!(twice.contains("`place_CITY` twice"), "{twice}");
        let long = format!("[{{name: {}, type: 'struct<abcdef:int>'}}]", "x".repeat(60));
        assert!(fault(&long).unwrap().contains("63 bytes"));
    }

    #[test]
    fn table_names_are_folded_unless_kept() {
        let file = |case: &str| {
            parsed(&format!(
                "{{feed: 'f-{{topic}}', type: stream, topics: '^.*', {case} \
                 columns: [{{name: Id, type: int}}], warehouse: {{table: 'S1.T_{{topic}}', \
                 dimensions: [{{table: Ids, key: [Id]}}]}}}}"
            ))
        };
        let named = |file: FeedFile| {
            let feed = file.resolve("USD-All", None).unwrap();
            let dimension = feed.dimensions()[0].table.clone();
            (
                feed.table().0.unwrap(),
                feed.table().1,
                dimension,
                feed.schema.columns[0].name.clone(),
            )
        };
        let names = |all: [&str; 4]| (all[0].into(), all[1].into(), all[2].into(), all[3].into());
        assert_eq!(named(file("")), names(["s1", "t_usd_all", "ids", "Id"]));
        assert_eq!(named(file("case: keep,")), names(["S1", "T_USD_All", "Ids", "Id"]));
    }

    #[test]
    fn nothing_is_inferred_for_documents_alone() {
        let file = parsed(
            "{feed: a, type: stream, topic: t, lake: null, warehouse: {shape: document}, \
             key: {format: string, columns: [{name: id, type: string}]}}",
        );
        let feed = file.resolve("t", None).unwrap();
        assert_eq!(feed.schema.columns.len(), 1);
        let names: Vec<_> =
            feed.schema.document().columns.into_iter().map(|column| column.name).collect();
        assert_eq!(names, ["id", "data"]);
    }

    #[test]
    fn an_inferred_column_does_not_hide_a_key_column() {
        let file = parsed(
            "{feed: a, type: table, topic: t, \
             key: {format: string, columns: [{name: id, type: string}]}}",
        );
        let fault = file.resolve("t", Some(vec![column("ID", ColumnType::Int)])).unwrap_err();
        assert_eq!(fault.field, "columns[0].name");
        assert!(fault.to_string().contains("inferred"), "{fault}");
    }
}
