//! The warehouse: its schema, what the node's role may do there, and how many connections it may have.

use crate::config::{FeedFile, Node, Warehouse};
use crate::lake::LakeStore;
use crate::record::SinkError;
use crate::warehouse::{self, AdHoc};

use super::{Finding, skew};

/// Connections of a node beside `warehouse.connections`: leases, the audit, reads.
const BESIDE: i64 = 8;

pub async fn examine(node: &Node, files: &[FeedFile], now_ms: fn() -> i64) -> Vec<Finding> {
    const REMEDY: &str = "correct `warehouse.url`, `warehouse.password` or `warehouse.tls`";
    let Some(config) = &node.warehouse else { return Vec::new() };
    let database = match warehouse::open(config) {
        Ok(database) => database,
        Err(error) => return vec![Finding::bad("warehouse", error, REMEDY)],
    };
    if let Err(error) = database.ping().await {
        return vec![Finding::bad("warehouse", error, REMEDY)];
    }
    let mut findings = vec![Finding::good("warehouse", "it answers")];
    let is_embedded = config.url.starts_with("sqlite:");
    if let Err(error) = database.check_schema().await {
        // A node makes the embedded one by itself.
        let wanted = files.iter().any(|file| file.warehouse.is_some()) && !is_embedded;
        if wanted {
            findings.push(Finding::bad("bookkeeping", error, "run `tidegate migrate`"));
        }
        return findings;
    }
    findings.push(Finding::good("bookkeeping", "it is of this release"));
    match warehouse::open_janitor(config) {
        Ok(janitor) => findings.push(match janitor.now_ms().await {
            Ok(theirs) => skew("warehouse's clock", theirs - now_ms()),
            Err(error) => Finding::bad("warehouse's clock", error, REMEDY),
        }),
        Err(error) => findings.push(Finding::bad("warehouse", error, REMEDY)),
    }
    if let Ok(ad_hoc) = warehouse::open_ad_hoc(config) {
        findings.extend(installation(node, ad_hoc.as_ref(), is_embedded).await);
        if !is_embedded {
            findings.extend(rights(ad_hoc.as_ref(), config).await);
        }
    }
    findings
}

/// Whether both sinks are of one installation, as far as both are of any.
async fn installation(node: &Node, database: &dyn AdHoc, is_embedded: bool) -> Option<Finding> {
    let store = LakeStore::open(node.lake.as_ref()?).ok()?;
    let owner = store.known_installation().await.ok()??.to_string();
    let table = if is_embedded { "tidegate_installation" } else { "tidegate.installation" };
    let found = first(database, &format!("SELECT id FROM {table}")).await.ok()??;
    Some(match found[0] == owner {
        true => Finding::good("installation", format!("both sinks are of {owner}")),
        false => Finding::bad(
            "installation",
            format!("the lake belongs to {owner}, the warehouse to {}", found[0]),
            "point the node file at sinks that belong together",
        ),
    })
}

async fn rights(database: &dyn AdHoc, config: &Warehouse) -> Vec<Finding> {
    let schema = config.schema.replace('\'', "''");
    let may = format!(
        "SELECT coalesce(has_schema_privilege(oid, 'CREATE'), false), current_user \
         FROM pg_namespace WHERE nspname = '{schema}'"
    );
    let count = "SELECT current_setting('max_connections')::int \
                        - current_setting('superuser_reserved_connections')::int, \
                        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
    let mut findings = Vec::new();
    match first(database, &may).await {
        Ok(Some(row)) if row[0] == "t" => {
            let says = format!("role {} may make tables in schema {}", row[1], config.schema);
            findings.push(Finding::good("warehouse's rights", says));
        }
        Ok(Some(row)) => findings.push(Finding::bad(
            "warehouse's rights",
            format!("role {} may make no tables in schema {}", row[1], config.schema),
            &format!("GRANT CREATE ON SCHEMA {} TO {}", config.schema, row[1]),
        )),
        Ok(None) => findings.push(Finding::bad(
            "warehouse's rights",
            format!("there is no schema {}", config.schema),
            "create it, or correct `warehouse.schema`",
        )),
        Err(error) => findings.push(Finding::bad("warehouse's rights", error, "see the warehouse")),
    }
    if let Ok(Some(row)) = first(database, count).await
        && let (Ok(most), Ok(used)) = (row[0].parse::<i64>(), row[1].parse::<i64>())
    {
        let wanted = config.connections as i64 + BESIDE;
        let says = format!("{used} of {most} connections are taken; a node takes up to {wanted}");
        findings.push(match used + wanted > most {
            true => Finding::doubtful(
                "warehouse's connections",
                says,
                "raise max_connections, or lower `warehouse.connections`",
            ),
            false => Finding::good("warehouse's connections", says),
        });
    }
    findings
}

/// The first row of an answer, what is null as nothing.
async fn first(database: &dyn AdHoc, sql: &str) -> Result<Option<Vec<String>>, SinkError> {
    let answer = database.ask(sql, 1).await?;
    let row = answer.rows.into_iter().next();
    Ok(row.map(|row| row.into_iter().map(Option::unwrap_or_default).collect()))
}
