//! Permission rows as they stand in the database, and what people do to them: every change is a transaction
//! with its row in the audit.

use std::sync::Arc;

use chrono::Utc;
use rand::Rng;
use uuid::Uuid;

use crate::config::{Node, Sources, Warehouse};
use crate::governance::{
    Action, AuditQuestion, AuditRow, Bearer, Decision, Effect, Grantee, Mapping, Pattern,
    Principal, Row, RowId, Salt, Target, Token, decide,
};
use crate::record::SinkError;
use crate::warehouse::{Change, Changed, GovernanceStore, open_governance};

/// The rows as they are understood now.
#[derive(Debug, Clone)]
pub struct Rules {
    pub rows: Vec<Row>,
    pub tokens: Vec<Token>,
    pub salt: Salt,
    /// What is not as it should be: which row or token, and what is wrong with it.
    pub faults: Vec<(String, String)>,
    /// When they were read, milliseconds since the epoch.
    pub as_of_ms: i64,
}

impl Rules {
    /// Such as were read at another time.
    pub fn remembered(rows: Vec<Row>, tokens: Vec<Token>, salt: &[u8], as_of_ms: i64) -> Self {
        Self { rows, tokens, salt: Salt::new(salt), faults: Vec::new(), as_of_ms }
    }

    /// Whether the others decide the same.
    pub fn says_what(&self, others: &Self) -> bool {
        self.rows == others.rows && self.tokens == others.tokens && self.salt == others.salt
    }

    pub fn decide(
        &self,
        principal: &Principal,
        action: Action,
        feed: &str,
        now_ms: i64,
    ) -> Decision {
        decide(&self.rows, principal, action, feed, now_ms)
    }
}

/// Who does something, and where.
#[derive(Debug, Clone)]
pub struct Hand {
    pub by: Principal,
    /// An address, or the machine.
    pub origin: String,
    pub node: String,
    pub trace_id: Option<String>,
}

impl Hand {
    /// Somebody at the machine's own terminal.
    pub fn local(user: &str) -> Self {
        let (by, origin) = (Principal::local(user), "terminal".to_owned());
        Self { by, origin, node: node_name(), trace_id: None }
    }

    /// A row of the audit about something that is done now.
    pub fn audit(&self, action: &str, feed: Option<&str>, allowed: bool, why: String) -> AuditRow {
        AuditRow {
            id: Uuid::new_v4(),
            at_ms: Utc::now().timestamp_millis(),
            principal: self.by.name.clone(),
            action: action.to_owned(),
            feed: feed.map(str::to_owned),
            allowed,
            columns: Vec::new(),
            rows: None,
            why,
            origin: self.origin.clone(),
            trace_id: self.trace_id.clone(),
            node: self.node.clone(),
        }
    }
}

/// What the audit calls this node.
pub fn node_name() -> String {
    let name = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "localhost".to_owned())
}

/// Where the rows are.
#[derive(Clone)]
pub struct Grants {
    store: Arc<dyn GovernanceStore>,
    /// Existing tables that are read with it.
    sources: Arc<Sources>,
}

impl Grants {
    pub fn open(node: &Node) -> Result<Self, SinkError> {
        let Some(config) = &node.warehouse else {
            return Err(SinkError::lasting(
                "permission rows live in the warehouse's database, and the node file has no `warehouse`",
            ));
        };
        Ok(Self::of(config)?.reading(node.governance.sources.clone()))
    }

    pub fn of(config: &Warehouse) -> Result<Self, SinkError> {
        open_governance(config).map(Self::new)
    }

    pub fn new(store: Arc<dyn GovernanceStore>) -> Self {
        Self { store, sources: Arc::default() }
    }

    /// The same, with existing tables that are read as well.
    pub fn reading(self, sources: Sources) -> Self {
        Self { sources: Arc::new(sources), ..self }
    }

    /// Existing tables whose rows count as well, by their names.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    pub async fn rules(&self) -> Result<Rules, SinkError> {
        let as_of_ms = Utc::now().timestamp_millis();
        let permissions = self.store.load(&self.sources).await?;
        let mut rules = Rules {
            rows: Vec::new(),
            tokens: Vec::new(),
            salt: Salt::new(&permissions.salt),
            faults: Vec::new(),
            as_of_ms,
        };
        for written in permissions.rows {
            let name = format!("row {}", written.id);
            let (rows, fault) = written.read();
            rules.rows.extend(rows);
            rules.faults.extend(fault.map(|fault| (name, fault)));
        }
        for ((name, source), found) in self.sources.iter().zip(permissions.found) {
            let (rows, faults) = Mapping::of(name, source).rows(found);
            rules.rows.extend(rows);
            rules.faults.extend(faults);
        }
        for written in permissions.tokens {
            let name = format!("token {}", written.id);
            match written.read() {
                Ok(token) => rules.tokens.push(token),
                Err(fault) => rules.faults.push((name, fault)),
            }
        }
        Ok(rules)
    }

    /// Waits until something may have changed, at most so long. For one who waits.
    pub async fn changed(&self, within: std::time::Duration) {
        self.store.changed(within).await;
    }

    /// Adds a row; answers its number.
    pub async fn grant(&self, hand: &Hand, row: &Row) -> Result<i64, SinkError> {
        if let Some(fault) = row.fault() {
            return Err(SinkError::lasting(fault));
        }
        let why = format!("{}: {}", sentence(row), row.reason);
        let audit = hand.audit("grant", Some(row.feed.as_str()), true, why);
        match self.store.change(&Change::Grant(row.clone()), &audit).await? {
            Changed::Granted(id) => Ok(id),
            other => Err(SinkError::lasting(format!("a grant answered {other:?}"))),
        }
    }

    /// Takes a row away; answers whether there was one.
    pub async fn revoke(&self, hand: &Hand, id: &RowId, why: &str) -> Result<bool, SinkError> {
        let id = match id {
            RowId::Own(id) => *id,
            RowId::Source(..) => return Err(SinkError::lasting(self.foreign(id))),
        };
        let audit = hand.audit("revoke", None, true, format!("row {id}: {why}"));
        Ok(self.store.change(&Change::Revoke(id), &audit).await? != Changed::Nothing)
    }

    /// Why a row of an existing table is not revoked.
    pub fn foreign(&self, id: &RowId) -> String {
        let RowId::Source(name, _) = id else { return format!("row {id} is Tidegate's own") };
        match self.sources.get(name) {
            Some(source) => format!(
                "row {id} is of the table {}, which Tidegate only reads: change it there, and it counts \
                 within two seconds",
                source.table
            ),
            None => format!("there is no `{name}` under governance.sources, and so no row {id}"),
        }
    }

    /// Lets somebody manage everything, unless somebody may already. Answers whether he is the first.
    pub async fn first_manager(&self, hand: &Hand, name: &str) -> Result<bool, SinkError> {
        let row = Row {
            id: RowId::Own(0),
            grantee: format!("user:{name}").parse::<Grantee>().map_err(SinkError::lasting)?,
            feed: Pattern::all(),
            action: Action::Manage,
            effect: Effect::Allow,
            target: Target::default(),
            expires_at_ms: None,
            granted_by: hand.by.name.clone(),
            reason: "the first who may grant".to_owned(),
        };
        let audit =
            hand.audit("grant", Some("*"), true, format!("{}: {}", sentence(&row), row.reason));
        let changed = self.store.change(&Change::FirstManager(row), &audit).await?;
        Ok(changed != Changed::Nothing)
    }

    /// Makes a token for somebody. It is told this once.
    pub async fn create_token(
        &self,
        hand: &Hand,
        principal: Principal,
        expires_at_ms: Option<i64>,
    ) -> Result<Bearer, SinkError> {
        let bearer = Bearer::of(rand::rng().random());
        let token = Token {
            id: bearer.id().to_owned(),
            hash: bearer.hash(),
            principal,
            created_by: hand.by.name.clone(),
            expires_at_ms,
            revoked: false,
        };
        let why = format!("token {} for {}", token.id, token.principal);
        let audit = hand.audit("token create", None, true, why);
        self.store.change(&Change::AddToken(token), &audit).await?;
        Ok(bearer)
    }

    /// Ends a token; answers whether there was one that had not ended.
    pub async fn revoke_token(&self, hand: &Hand, id: &str) -> Result<bool, SinkError> {
        let audit = hand.audit("token revoke", None, true, format!("token {id}"));
        let changed = self.store.change(&Change::RevokeToken(id.to_owned()), &audit).await?;
        Ok(changed != Changed::Nothing)
    }

    pub async fn record(&self, rows: &[AuditRow]) -> Result<(), SinkError> {
        self.store.record(rows).await
    }

    pub async fn audit(&self, question: &AuditQuestion) -> Result<Vec<AuditRow>, SinkError> {
        self.store.audit(question).await
    }
}

/// A row in words.
pub fn sentence(row: &Row) -> String {
    let effect = match row.effect {
        Effect::Allow => "may",
        Effect::Deny => "may not",
    };
    let mut said = format!("{} {effect} {} {}", row.grantee, row.action, row.feed);
    let Target { columns, masks, predicate, days } = &row.target;
    if let Some(columns) = columns {
        said += &format!(", columns {}", columns.iter().cloned().collect::<Vec<_>>().join(", "));
    }
    for (name, mask) in masks {
        said += &format!(", {name} as {}", mask.name());
    }
    if let Some(predicate) = predicate {
        said += &format!(", where {predicate}");
    }
    match (days.from, days.to) {
        (None, None) => {}
        (Some(from), None) => said += &format!(", from {from}"),
        (None, Some(to)) => said += &format!(", to {to}"),
        (Some(from), Some(to)) => said += &format!(", from {from} to {to}"),
    }
    if let Some(at) = row.expires_at_ms {
        said += &format!(", until {}", instant(at));
    }
    said
}

/// A time as people write it.
pub fn instant(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms);
    time.map_or_else(
        || ms.to_string(),
        |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    )
}
