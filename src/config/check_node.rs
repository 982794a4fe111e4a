//! What a node file means, checked: addresses, refused settings, files and credentials.

use std::path::{Path, PathBuf};

use url::Url;

use super::fault::nearest;
use super::node::DEFAULT_SCHEMA;
use super::{
    Api, ByteSize, Duration, Fault, Janitor, Kafka, Lake, Node, Oidc, Otlp, Protocol, Rights,
    SchemaRegistry, Secret, TlsMode, Warehouse,
};
use super::{check, check_sources, refused};

const MIN_BUDGET: ByteSize = ByteSize::mib(32);
const MIN_SPOOL: ByteSize = ByteSize::mib(1);

/// Connection parameters that may follow `?` in a PostgreSQL url.
const URL_PARAMETERS: [&str; 14] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "options",
    "port",
    "target_session_attrs",
    "user",
];

/// Puts relative paths beside the node file, so that the working directory does not matter.
pub fn resolve_paths(node: &mut Node, folder: &Path) {
    let beside = |path: &mut PathBuf| *path = folder.join(&*path);
    let secret = |secret: &mut Secret| {
        if let Secret::File(path) = secret {
            beside(path);
        }
    };
    beside(&mut node.feeds);
    beside(&mut node.volume);
    if let Some(api) = &mut node.api {
        let tls = api.tls.iter_mut().flat_map(|tls| [&mut tls.certificate, &mut tls.key]);
        tls.for_each(beside);
        api.oidc.iter_mut().filter_map(|oidc| oidc.ca.as_mut()).for_each(beside);
    }
    if let Some(tls) = &mut node.kafka.tls {
        [&mut tls.ca, &mut tls.certificate, &mut tls.key].into_iter().flatten().for_each(beside);
    }
    if let Some(sasl) = &mut node.kafka.sasl {
        secret(&mut sasl.password);
    }
    if let Some(lake) = &mut node.lake {
        if !lake.url.is_empty() && !lake.url.contains("://") {
            lake.url = folder.join(&lake.url).to_string_lossy().into_owned();
        }
        if let Some(s3) = &mut lake.s3 {
            [&mut s3.access_key, &mut s3.secret_key].into_iter().flatten().for_each(secret);
        }
    }
    if let Some(warehouse) = &mut node.warehouse {
        if let Some(file) = sqlite_file(&warehouse.url) {
            warehouse.url = format!("sqlite:{}", folder.join(file).display());
        }
        warehouse.password.iter_mut().for_each(secret);
        warehouse.tls.ca.iter_mut().for_each(beside);
    }
    if let Some(registry) = &mut node.schema_registry {
        [&mut registry.password, &mut registry.token].into_iter().flatten().for_each(secret);
        registry.ca.iter_mut().for_each(beside);
    }
}

/// The file of a well-formed `sqlite:` url.
fn sqlite_file(url: &str) -> Option<&str> {
    let file = url.strip_prefix("sqlite:")?;
    // `sqlite://data/x` looks relative, but names `/data/x`; three slashes are plain.
    let misleading = file.starts_with("//") && !file.starts_with("///");
    (!file.is_empty() && !misleading && !file.starts_with(':')).then_some(file)
}

/// Collects the faults of a node whose paths are resolved.
pub fn node(node: &Node, file: &Path) -> Vec<Fault> {
    let mut check = NodeCheck { file, faults: Vec::new() };
    check.kafka(&node.kafka);
    if let Some(lake) = &node.lake {
        check.lake(lake);
    }
    if let Some(warehouse) = &node.warehouse {
        check.warehouse(warehouse);
    }
    if let Some(registry) = &node.schema_registry {
        check.registry(registry);
    }
    if let Some(api) = &node.api {
        check.api(api, node.warehouse.is_some());
    }
    check.positive("governance.stale_after", node.governance.stale_after);
    if node.governance.spool < MIN_SPOOL {
        let found = node.governance.spool.to_string();
        check.fault("governance.spool", format!("`{found}`"), "1MiB or more");
    }
    if let Some(rights) = &node.governance.postgres {
        check.rights(rights, node.warehouse.as_ref());
    }
    check.files(node);
    check.faults.extend(check_sources::sources(node, file));
    check.janitor(&node.janitor);
    if let Some(listen) = node.telemetry.listen.as_ref().filter(|listen| !is_address(listen)) {
        let allowed = "host:port, such as `127.0.0.1:9464`";
        check.fault("telemetry.listen", format!("`{listen}`"), allowed);
    }
    if let Some(otlp) = &node.telemetry.otlp {
        check.otlp(otlp);
    }
    if node.memory.budget < MIN_BUDGET {
        let found = node.memory.budget.to_string();
        check.fault("memory.budget", format!("`{found}`"), "32MiB or more");
    }
    for (field, duration) in [("detach_after", node.detach_after), ("park_retry", node.park_retry)]
    {
        check.positive(field, duration);
    }
    check.faults
}

struct NodeCheck<'a> {
    file: &'a Path,
    faults: Vec<Fault>,
}

impl NodeCheck<'_> {
    fn fault(
        &mut self,
        field: impl Into<String>,
        found: impl Into<Box<str>>,
        allowed: impl Into<String>,
    ) -> &mut Fault {
        self.faults.push(Fault::new(self.file, field, found, allowed));
        let last = self.faults.len() - 1;
        &mut self.faults[last]
    }

    fn positive(&mut self, field: &str, duration: Duration) {
        if duration.is_zero() {
            self.fault(field, format!("`{duration}`"), "1ms or more");
        }
    }

    fn readable(&mut self, field: &str, path: &Path) {
        if let Err(error) = std::fs::File::open(path).and_then(|file| file.metadata()) {
            let found = format!("`{}`, which cannot be read ({error})", path.display());
            self.fault(field, found, "the path of a readable file, from the node file's folder");
        } else if path.is_dir() {
            self.fault(field, format!("`{}`, a folder", path.display()), "the path of a file");
        }
    }

    fn secret(&mut self, field: &str, secret: &Secret) {
        let found = match secret.read() {
            Ok(text) if !text.reveal().is_empty() => return,
            Ok(_) => format!("{secret:?}, which is empty"),
            Err(error) => error,
        };
        self.fault(
            field,
            found,
            "`{env: NAME}` of a variable that is set, or `{file: PATH}` of a readable file",
        );
    }

    fn kafka(&mut self, kafka: &Kafka) {
        for server in kafka.bootstrap.split(',').map(str::trim) {
            if !host_and_port(server) {
                let allowed = "`host:port`, several joined by commas";
                let fault = self.fault("kafka.bootstrap", format!("`{server}`"), allowed);
                if !server.is_empty() && !server.contains(':') {
                    fault.nearest = Some(format!("{server}:9092"));
                }
            }
        }
        if kafka.group.trim().is_empty() {
            self.fault("kafka.group", "an empty text", "the name of the consumer group");
        }
        if let Some(tls) = &kafka.tls {
            let files = [("ca", &tls.ca), ("certificate", &tls.certificate), ("key", &tls.key)];
            for (name, path) in files {
                if let Some(path) = path {
                    self.readable(&format!("kafka.tls.{name}"), path);
                }
            }
            self.pair("kafka.tls", ("certificate", &tls.certificate), ("key", &tls.key));
        }
        if let Some(sasl) = &kafka.sasl {
            if sasl.username.is_empty() {
                self.fault("kafka.sasl.username", "an empty text", "the user's name");
            }
            self.secret("kafka.sasl.password", &sasl.password);
        }
        self.settings(kafka);
    }

    fn settings(&mut self, kafka: &Kafka) {
        for name in kafka.settings.keys() {
            let field = format!("kafka.settings.{name}");
            // The value is not shown: it may be a credential.
            if let Some(remedy) = refused::remedy(name) {
                self.fault(field, "a setting the node refuses", "other librdkafka settings")
                    .remedy = Some(remedy.into());
            } else if kafka.protocol == Protocol::Consumer
                && ["session.timeout.ms", "heartbeat.interval.ms"].contains(&name.as_str())
            {
                let allowed = "other librdkafka settings: with `protocol: consumer` the broker \
                               sets this one";
                self.fault(field, "a setting of the classic protocol", allowed);
            }
        }
    }

    /// Two fields that only make sense together.
    fn pair<T>(&mut self, at: &str, one: (&str, &Option<T>), other: (&str, &Option<T>)) {
        let missing = match (one.1, other.1) {
            (Some(_), None) => other.0,
            (None, Some(_)) => one.0,
            _ => return,
        };
        let allowed = format!("both `{}` and `{}`, or neither", one.0, other.0);
        self.fault(format!("{at}.{missing}"), "nothing", allowed);
    }

    fn lake(&mut self, lake: &Lake) {
        let allowed = "a folder, or `s3://bucket/prefix`";
        let s3 = lake.url.starts_with("s3://");
        if lake.url.is_empty() {
            self.fault("lake.url", "an empty text", allowed);
        } else if s3 {
            let bucket = lake.url["s3://".len()..].split('/').next().unwrap_or_default();
            if bucket.contains('@') {
                self.fault("lake.url", "credentials inside the url", allowed).remedy =
                    Some("use `lake.s3.access_key` and `lake.s3.secret_key`".into());
            } else if bucket.is_empty() {
                self.fault("lake.url", format!("`{}`, without a bucket", lake.url), allowed);
            }
        } else if let Some((scheme, path)) = lake.url.split_once("://") {
            let fault = self.fault("lake.url", format!("the scheme `{scheme}`"), allowed);
            fault.nearest = match scheme {
                "file" => Some(path.to_owned()),
                "s3a" | "s3n" if !path.contains('@') => Some(format!("s3://{path}")),
                _ => None,
            };
        }
        let Some(options) = &lake.s3 else { return };
        if !s3 && !lake.url.contains("://") {
            self.fault("lake.s3", "settings of an S3 store", "none: `lake.url` is a folder");
        }
        if let Some(endpoint) = &options.endpoint {
            self.endpoint("lake.s3.endpoint", endpoint);
        }
        let keys = [("access_key", &options.access_key), ("secret_key", &options.secret_key)];
        for (name, key) in keys {
            if let Some(key) = key {
                self.secret(&format!("lake.s3.{name}"), key);
            }
        }
        self.pair("lake.s3", keys[0], keys[1]);
    }

    fn endpoint(&mut self, field: &str, endpoint: &str) {
        let allowed = "an `http://` or `https://` address, without credentials";
        match Url::parse(endpoint) {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                self.fault(field, "credentials inside the address", allowed);
            }
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
            _ => {
                self.fault(field, "another text", allowed);
            }
        }
    }

    fn registry(&mut self, registry: &SchemaRegistry) {
        self.endpoint("schema_registry.url", &registry.url);
        if registry.username.as_ref().is_some_and(String::is_empty) {
            self.fault("schema_registry.username", "an empty text", "the user's name");
        }
        for (name, secret) in [("password", &registry.password), ("token", &registry.token)] {
            if let Some(secret) = secret {
                self.secret(&format!("schema_registry.{name}"), secret);
            }
        }
        let named = registry.username.is_some();
        if named != registry.password.is_some() {
            let missing = if named { "password" } else { "username" };
            let allowed = "both `username` and `password`, or neither";
            self.fault(format!("schema_registry.{missing}"), "nothing", allowed);
        } else if named && registry.token.is_some() {
            let allowed = "a user name with a password, or a token, and not both";
            self.fault("schema_registry.token", "a token beside a user name", allowed);
        }
        if let Some(ca) = &registry.ca {
            self.readable("schema_registry.ca", ca);
        }
    }

    fn otlp(&mut self, otlp: &Otlp) {
        if let Some(endpoint) = &otlp.endpoint {
            self.endpoint("telemetry.otlp.endpoint", endpoint);
            if Url::parse(endpoint).is_ok_and(|url| url.has_host() && url.path() != "/") {
                let allowed = "an address without a path, such as `http://collector:4318`";
                self.fault("telemetry.otlp.endpoint", "an address with a path", allowed);
            }
        }
        if let Some(sample) = otlp.sample.filter(|share| !(0.0..=1.0).contains(share)) {
            self.fault("telemetry.otlp.sample", format!("`{sample}`"), "a share, 0 to 1");
        }
        if let Some(every) = otlp.metrics_every {
            self.positive("telemetry.otlp.metrics_every", every);
        }
    }

    fn api(&mut self, api: &Api, has_warehouse: bool) {
        if !has_warehouse {
            self.fault("api", "an API, and no `warehouse`", "a `warehouse`: its database keeps the permission rows, without which nobody may read anything");
        }
        // Port 0 is any that is free.
        if !is_address(&api.listen) {
            let found = format!("`{}`", api.listen);
            self.fault("api.listen", found, "host:port, such as `127.0.0.1:8080`");
        }
        if let Some(tls) = &api.tls {
            self.readable("api.tls.certificate", &tls.certificate);
            self.readable("api.tls.key", &tls.key);
        }
        if let Some(oidc) = &api.oidc {
            self.oidc(oidc);
        }
        let limits = &api.limits;
        let counts = [
            ("requests_per_second", limits.requests_per_second as usize),
            ("burst", limits.burst as usize),
            ("reads", limits.reads),
            ("reads_each", limits.reads_each),
            ("body", limits.body.bytes()),
        ];
        for (name, _) in counts.into_iter().filter(|(_, count)| *count == 0) {
            self.fault(format!("api.limits.{name}"), "0", "1 or more");
        }
        self.positive("api.limits.read_time", limits.read_time);
        self.positive("api.limits.cursor_life", limits.cursor_life);
    }

    fn rights(&mut self, rights: &Rights, warehouse: Option<&Warehouse>) {
        if warehouse.is_none_or(|it| it.url.starts_with("sqlite:")) {
            self.fault(
                "governance.postgres",
                "no PostgreSQL",
                "a `warehouse` in PostgreSQL; what is embedded is read through the API",
            );
        }
        if rights.readers.is_empty() {
            self.fault("governance.postgres.readers", "no name", "the name of a role");
        }
    }

    fn oidc(&mut self, oidc: &Oidc) {
        if Oidc::trusted_url(&oidc.issuer).is_none_or(|url| url.query().is_some()) {
            let allowed = "an `https://` address as the issuer's tokens have it in `iss`, without \
                           credentials, query or fragment; `http://` only on `localhost`";
            let found = match Url::parse(&oidc.issuer) {
                Ok(url) if url.password().is_some() => "an address with credentials".to_owned(),
                _ => format!("`{}`", oidc.issuer),
            };
            self.fault("api.oidc.issuer", found, allowed);
        }
        if oidc.audience.trim().is_empty() {
            let allowed = "what the issuer's tokens for this API have in `aud`";
            self.fault("api.oidc.audience", "an empty text", allowed);
        }
        let claims = [("user", Some(&oidc.user)), ("groups", Some(&oidc.groups))];
        for (field, claim) in claims.into_iter().chain([("roles", oidc.roles.as_ref())]) {
            if claim.is_some_and(|path| path.split('.').any(|part| part.trim().is_empty())) {
                let found = format!("`{}`", claim.map_or("", String::as_str));
                let allowed = "a claim's name, or a path such as `realm_access.roles`";
                self.fault(format!("api.oidc.{field}"), found, allowed);
            }
        }
        if let Some(ca) = &oidc.ca {
            self.readable("api.oidc.ca", ca);
        }
        self.positive("api.oidc.stale_after", oidc.stale_after);
    }

    fn files(&mut self, node: &Node) {
        let files = &node.governance.files;
        let local = node.lake.as_ref().is_some_and(|lake| !lake.url.starts_with("s3://"));
        if files.enforce && !local {
            let found = if node.lake.is_some() { "a lake on S3" } else { "no `lake`" };
            let remedy =
                "take it out; of a bucket, `tidegate permissions bucket-policy` prints the policy";
            self.fault("governance.files.enforce", found, "a lake that is a folder").remedy =
                Some(remedy.into());
        }
        if files.enforce && node.warehouse.is_none() {
            self.fault("governance.files.enforce", "no `warehouse`", "a `warehouse`: its database keeps the permission rows; `{url: 'sqlite:governance.db'}` is enough");
        }
        let sound = |name: &str| {
            !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || ":,/".contains(c))
        };
        for (name, _) in files.groups.iter().filter(|(_, group)| !sound(group)) {
            let field = format!("governance.files.groups.{name}");
            self.fault(field, format!("`{}`", files.groups[name]), "the name of a Unix group");
        }
        for name in files
            .groups
            .keys()
            .filter(|name| name.starts_with("group:") || name.starts_with("user:"))
        {
            let allowed = "the name of a group as it is, or `role:NAME`";
            self.fault("governance.files.groups", format!("`{name}`"), allowed);
        }
    }

    fn janitor(&mut self, janitor: &Janitor) {
        let Janitor {
            grace, log_retention, target_size, least_files, pass, audit_days, lease, ..
        } = janitor;
        let mut fault = |field: &str, wrong: bool, found: String, allowed: &str| {
            if wrong {
                self.fault(format!("janitor.{field}"), format!("`{found}`"), allowed);
            }
        };
        let least = Duration::from_secs(3600);
        fault(
            "grace",
            *grace < least,
            grace.to_string(),
            "1h or more: a reader may be in the middle",
        );
        fault(
            "log_retention",
            *log_retention < Duration::from_secs(24 * 3600) || log_retention < grace,
            log_retention.to_string(),
            "1d or more, and no less than `janitor.grace`",
        );
        let unfit = !(ByteSize::mib(1)..=ByteSize::gib(1)).contains(target_size);
        fault("target_size", unfit, target_size.to_string(), "1MiB to 1GiB: one is in memory");
        fault("least_files", *least_files < 2, least_files.to_string(), "2 or more");
        fault("pass", pass < target_size, pass.to_string(), "`janitor.target_size` or more");
        fault("audit_days", *audit_days == 0, audit_days.to_string(), "1 or more");
        fault("lease", *lease < Duration::from_secs(1), lease.to_string(), "1s or more");
    }

    fn warehouse(&mut self, warehouse: &Warehouse) {
        let scheme = warehouse.url.split(':').next().unwrap_or_default();
        let allowed = "`postgres://user@host:port/database`, or `sqlite:FILE`";
        match scheme {
            "postgres" | "postgresql" => self.postgres(warehouse),
            "sqlite" => self.sqlite(warehouse),
            // The rest of the url is not shown: it may hold a password.
            _ => {
                self.fault("warehouse.url", format!("the scheme `{scheme}`"), allowed).nearest =
                    nearest(scheme, ["postgres", "postgresql", "sqlite"])
                        .map(|scheme| format!("{scheme}:"));
            }
        }
        if warehouse.connections == 0 {
            self.fault("warehouse.connections", "0", "1 or more");
        }
        // PostgreSQL takes 0 as "wait for ever".
        self.positive("warehouse.lock_timeout", warehouse.lock_timeout);
    }

    fn sqlite(&mut self, warehouse: &Warehouse) {
        if sqlite_file(&warehouse.url).is_none() {
            let found = format!("`{}`", warehouse.url);
            let allowed = "`sqlite:FILE`, a path from the node file's folder, or from `/`";
            self.fault("warehouse.url", found, allowed);
        }
        if warehouse.password.is_some() {
            self.fault("warehouse.password", "a password", "none: SQLite has no users");
        }
        if warehouse.tls.mode != TlsMode::Disable {
            self.fault("warehouse.tls.mode", "`verify-full`", "`disable`: SQLite is a file");
        }
        if warehouse.schema != DEFAULT_SCHEMA {
            let found = format!("`{}`", warehouse.schema);
            self.fault("warehouse.schema", found, "none: a SQLite file has no schemas");
        }
    }

    fn postgres(&mut self, warehouse: &Warehouse) {
        self.postgres_url(&warehouse.url);
        let schema = &warehouse.schema;
        if !check::valid_identifier(schema) {
            let allowed = "1 to 63 letters, digits and `_`";
            self.fault("warehouse.schema", format!("`{schema}`"), allowed);
        } else if check::reserved_schema(schema) {
            let allowed = "a schema that is neither PostgreSQL's nor Tidegate's own (`tidegate`)";
            self.fault("warehouse.schema", format!("`{schema}`"), allowed);
        }
        if let Some(password) = &warehouse.password {
            self.secret("warehouse.password", password);
        }
        match (warehouse.tls.mode, &warehouse.tls.ca) {
            (TlsMode::VerifyFull, None) => {
                let allowed = "with `mode: verify-full`, the PEM file of the certificate authority";
                self.fault("warehouse.tls.ca", "nothing", allowed);
            }
            (TlsMode::Disable, Some(_)) => {
                let allowed = "`verify-full`: a `ca` is given, and `disable` would not use it";
                self.fault("warehouse.tls.mode", "`disable`", allowed);
            }
            (_, Some(ca)) => self.readable("warehouse.tls.ca", ca),
            (_, None) => {}
        }
    }

    fn postgres_url(&mut self, text: &str) {
        let field = "warehouse.url";
        let Ok(url) = Url::parse(text) else {
            let found = "a text that is not a url";
            self.fault(field, found, "`postgres://user@host:port/database`");
            return;
        };
        let given =
            |name: &str| url.query_pairs().any(|(key, value)| key == name && !value.is_empty());
        if url.password().is_some() || given("password") {
            let allowed = "`postgres://user@host:port/database`, without a password";
            self.fault(field, "a password inside the url", allowed).remedy = Some(
                "take it out, and add beside `url`:\npassword: {env: NAME}\nor\npassword: {file: PATH}".into(),
            );
        }
        for (present, what) in [
            (!url.username().is_empty() || given("user"), "user"),
            (url.has_host() && url.host_str() != Some("") || given("host"), "host"),
            (!url.path().trim_matches('/').is_empty() || given("dbname"), "database"),
        ] {
            if !present {
                let found = format!("a url without a {what}");
                self.fault(field, found, "`postgres://user@host:port/database`");
            }
        }
        for (name, _) in url.query_pairs().filter(|(name, _)| name != "password") {
            if name.starts_with("ssl") {
                self.fault(
                    field,
                    format!("the parameter `{name}`"),
                    "no TLS settings in the url",
                )
                .remedy = Some("use `warehouse.tls`".into());
            } else if !URL_PARAMETERS.contains(&&*name) {
                let allowed = super::fault::listed(&URL_PARAMETERS);
                self.fault(field, format!("the parameter `{name}`"), allowed).nearest =
                    nearest(&name, URL_PARAMETERS);
            }
        }
    }
}

fn host_and_port(server: &str) -> bool {
    let Some((host, port)) = server.rsplit_once(':') else { return false };
    let host_fits = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        }
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    host_fits && digits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Whether something can be listened at; port 0 is any that is free.
fn is_address(listen: &str) -> bool {
    let free = listen.strip_suffix(":0").map(|host| format!("{host}:1"));
    host_and_port(free.as_deref().unwrap_or(listen))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<Fault> {
        let mut parsed: Node =
            serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        resolve_paths(&mut parsed, Path::new("/nowhere"));
        node(&parsed, Path::new("node.yaml"))
    }

    fn kafka(rest: &str) -> String {
        format!("kafka: {{bootstrap: 'a:1', {rest}}}")
    }

    fn with(rest: &str) -> String {
        format!("kafka: {{bootstrap: 'a:1'}}\n{rest}")
    }

    fn api(rest: &str) -> String {
        with(&format!("warehouse: {{url: 'sqlite:w.db'}}\napi: {{listen: 'a:1', {rest}}}"))
    }

    fn warehouse(url: &str) -> String {
        with(&format!("warehouse: {{url: '{url}'}}"))
    }

    #[test]
    fn sound_nodes_have_no_faults() {
        for text in [
            kafka("settings: {client.id: x, session.timeout.ms: 6000}"),
            "kafka: {bootstrap: 'a.b-c:9092, [::1]:9092,127.0.0.1:1'}".to_owned(),
            warehouse("postgres://u@h/d"),
            warehouse("postgresql://u@h:5433/d?application_name=x&connect_timeout=3"),
            warehouse("postgresql:///d?host=/run/postgresql&user=u"),
            warehouse("sqlite:data/w.db"),
            warehouse("sqlite:///data/w.db"),
            with("lake: {url: data/lake}"),
            with("lake: {url: 's3://bucket/a/b', s3: {endpoint: 'http://minio:9000'}}"),
            with("memory: {budget: 32MiB}"),
            with("schema_registry: {url: 'https://registry:8081/apis/ccompat/v7'}"),
            with("schema_registry: {url: 'http://r', username: u, password: {env: PATH}}"),
            with("schema_registry: {url: 'http://r', token: {env: PATH}}"),
            with("warehouse: {url: 'sqlite:w.db'}\napi: {listen: '[::1]:8080'}"),
            with("warehouse: {url: 'sqlite:w.db'}\napi: {listen: '127.0.0.1:0'}"),
            api("oidc: {issuer: 'https://id.example.org/realms/x/', audience: tidegate}"),
            api(
                "oidc: {issuer: 'http://127.0.0.1:5556/dex', audience: a, user: 'https://x.org/n', \
                 roles: realm_access.roles, stale_after: 5m}",
            ),
            with("janitor: {retention: '0 2 * * *', compaction: 'off', vacuum: 6h, grace: 1h}"),
            with("governance: {stale_after: 1h, spool: 1MiB}\nvolume: /var/lib/tidegate"),
            with(
                "lake: {url: l}\nwarehouse: {url: 'sqlite:w.db'}\n\
                 governance: {files: {enforce: true, groups: {finance: fin, 'role:a': fin}}}",
            ),
        ] {
            assert_eq!(faults(&text), [], "{text}");
        }
    }

    #[test]
    fn each_fault_is_named() {
        let bootstrap = |text: &str| format!("kafka: {{bootstrap: '{text}'}}");
        let set = |name: &str| kafka(&format!("settings: {{{name}: hunter2}}"));
        let oidc = |rest: &str| api(&format!("oidc: {{issuer: 'https://i', {rest}}}"));
        let issuer = |url: &str| api(&format!("oidc: {{issuer: '{url}', audience: a}}"));
        let sasl = "sasl: {mechanism: PLAIN, username: u, password: {env: TIDEGATE_NOT_SET}}";
        let cases: Vec<(String, &str, &str)> = vec![
            (bootstrap("broker"), "kafka.bootstrap", "did you mean `broker:9092`"),
            (bootstrap("a:1,,b:2"), "kafka.bootstrap", "``"),
            (bootstrap("a:0"), "kafka.bootstrap", "host:port"),
            (bootstrap("a:70000"), "kafka.bootstrap", "`a:70000`"),
            (bootstrap("SSL://a:1"), "kafka.bootstrap", "host:port"),
            (kafka("group: ' '"), "kafka.group", "name of the consumer group"),
            (with("api: {listen: '127.0.0.1:8080'}"), "api", "a `warehouse`"),
            (
                with(
                    "warehouse: {url: 'sqlite:w.db'}\napi: {listen: '[::]:1', tls: {certificate: c, key: /dev/null}}",
                ),
                "api.tls.certificate",
                "/nowhere/c",
            ),
            (
                with(
                    "warehouse: {url: 'sqlite:w.db'}\napi: {listen: '[::]:1', limits: {reads: 0}}",
                ),
                "api.limits.reads",
                "1 or more",
            ),
            (
                with("warehouse: {url: 'sqlite:w.db'}\napi: {listen: here}"),
                "api.listen",
                "host:port",
            ),
            (issuer("http://id.example.org"), "api.oidc.issuer", "`http://` only on `localhost`"),
            (issuer("id.example.org"), "api.oidc.issuer", "`https://`"),
            (issuer("https://id.example.org/?a=1"), "api.oidc.issuer", "without credentials"),
            (issuer("https://id.example.org/#a"), "api.oidc.issuer", "fragment"),
            (issuer("http://localhost.example.org"), "api.oidc.issuer", "localhost"),
            (issuer("https://u:hunter2@i"), "api.oidc.issuer", "an address with credentials"),
            (issuer("ftp://localhost"), "api.oidc.issuer", "https"),
            (oidc("audience: ' '"), "api.oidc.audience", "`aud`"),
            (oidc("audience: a, user: ''"), "api.oidc.user", "claim's name"),
            (oidc("audience: a, groups: a."), "api.oidc.groups", "`a.`"),
            (oidc("audience: a, roles: 'a..b'"), "api.oidc.roles", "realm_access.roles"),
            (oidc("audience: a, ca: x.pem"), "api.oidc.ca", "/nowhere/x.pem"),
            (oidc("audience: a, stale_after: 0s"), "api.oidc.stale_after", "1ms or more"),
            (with("governance: {spool: 1kB}"), "governance.spool", "1MiB or more"),
            (
                with("lake: {url: l}\ngovernance: {files: {enforce: true}}"),
                "governance.files.enforce",
                "a `warehouse`",
            ),
            (
                with(
                    "lake: {url: 's3://b/p'}\nwarehouse: {url: 'sqlite:w.db'}\n\
                     governance: {files: {enforce: true}}",
                ),
                "governance.files.enforce",
                "a lake that is a folder",
            ),
            (
                with("governance: {files: {groups: {finance: 'a b'}}}"),
                "governance.files.groups.finance",
                "a Unix group",
            ),
            (
                with("governance: {files: {groups: {'group:finance': fin}}}"),
                "governance.files.groups",
                "`role:NAME`",
            ),
            (with("telemetry: {listen: '9464'}"), "telemetry.listen", "host:port"),
            (
                with("telemetry: {otlp: {endpoint: 'collector:4317'}}"),
                "telemetry.otlp.endpoint",
                "`http://`",
            ),
            (
                with("telemetry: {otlp: {endpoint: 'http://collector:4318/v1/traces'}}"),
                "telemetry.otlp.endpoint",
                "without a path",
            ),
            (with("telemetry: {otlp: {sample: 1.5}}"), "telemetry.otlp.sample", "a share"),
            (
                with("telemetry: {otlp: {metrics_every: 0s}}"),
                "telemetry.otlp.metrics_every",
                "1ms or more",
            ),
            (with("janitor: {grace: 59m}"), "janitor.grace", "1h or more"),
            (with("janitor: {log_retention: 1h}"), "janitor.log_retention", "1d or more"),
            (with("janitor: {grace: 40d}"), "janitor.log_retention", "`janitor.grace`"),
            (with("janitor: {target_size: 1kB}"), "janitor.target_size", "1MiB to 1GiB"),
            (with("janitor: {least_files: 1}"), "janitor.least_files", "2 or more"),
            (with("janitor: {pass: 1MiB}"), "janitor.pass", "`janitor.target_size` or more"),
            (with("janitor: {audit_days: 0}"), "janitor.audit_days", "1 or more"),
            (with("janitor: {lease: 10ms}"), "janitor.lease", "1s or more"),
            (with("governance: {stale_after: 0s}"), "governance.stale_after", "1ms or more"),
            (
                with("warehouse: {url: 'sqlite:w.db'}\ngovernance: {postgres: {}}"),
                "governance.postgres",
                "a `warehouse` in PostgreSQL",
            ),
            (
                format!(
                    "{}\ngovernance: {{postgres: {{readers: ''}}}}",
                    warehouse("postgresql://u@h/d")
                ),
                "governance.postgres.readers",
                "the name of a role",
            ),
            (kafka("tls: {ca: x.pem}"), "kafka.tls.ca", "/nowhere/x.pem"),
            (
                with("schema_registry: {url: 'http://u:hunter2@r'}"),
                "schema_registry.url",
                "credentials inside",
            ),
            (with("schema_registry: {url: 'registry:8081'}"), "schema_registry.url", "http://"),
            (
                with("schema_registry: {url: 'http://r', username: u}"),
                "schema_registry.password",
                "both `username` and `password`",
            ),
            (
                with("schema_registry: {url: 'http://r', password: {env: PATH}}"),
                "schema_registry.username",
                "or neither",
            ),
            (
                with(
                    "schema_registry: {url: 'http://r', username: u, password: {env: PATH}, \
                     token: {env: PATH}}",
                ),
                "schema_registry.token",
                "not both",
            ),
            (
                with("schema_registry: {url: 'http://r', token: {env: TIDEGATE_NOT_SET}}"),
                "schema_registry.token",
                "TIDEGATE_NOT_SET is not set",
            ),
            (
                with("schema_registry: {url: 'http://r', ca: x.pem}"),
                "schema_registry.ca",
                "/nowhere/x.pem",
            ),
            (kafka(sasl), "kafka.sasl.password", "TIDEGATE_NOT_SET is not set"),
            (set("enable.auto.commit"), "kafka.settings.enable.auto.commit", "in the sinks"),
            (set("enable.auto.offset.store"), "kafka.settings.enable.auto.offset.store", "sinks"),
            (set("isolation.level"), "kafka.settings.isolation.level", "remove it"),
            (set("group.id"), "kafka.settings.group.id", "`kafka.group`"),
            (set("bootstrap.servers"), "kafka.settings.bootstrap.servers", "`kafka.bootstrap`"),
            (
                set("partition.assignment.strategy"),
                "kafka.settings.partition.assignment.strategy",
                "remove it",
            ),
            (set("auto.offset.reset"), "kafka.settings.auto.offset.reset", "`start`"),
            (set("enable.partition.eof"), "kafka.settings.enable.partition.eof", "remove it"),
            (set("group.protocol"), "kafka.settings.group.protocol", "`kafka.protocol`"),
            (set("security.protocol"), "kafka.settings.security.protocol", "`kafka.tls`"),
            (set("sasl.password"), "kafka.settings.sasl.password", "{env: NAME}"),
            (set("sasl.oauthbearer.config"), "kafka.settings.sasl.oauthbearer.config", "SCRAM"),
            (set("ssl.ca.location"), "kafka.settings.ssl.ca.location", "`kafka.tls.ca`"),
            (set("ssl.key.pem"), "kafka.settings.ssl.key.pem", "`kafka.tls.key`"),
            (set("ssl.key.password"), "kafka.settings.ssl.key.password", "not encrypted"),
            (set("fetch.max.bytes"), "kafka.settings.fetch.max.bytes", "`memory.budget`"),
            (
                kafka("protocol: consumer, settings: {session.timeout.ms: 6000}"),
                "kafka.settings.session.timeout.ms",
                "the broker",
            ),
            (with("lake: {url: ''}"), "lake.url", "a folder"),
            (with("lake: {url: 'file:///data'}"), "lake.url", "did you mean `/data`"),
            (with("lake: {url: 's3a://b/p'}"), "lake.url", "did you mean `s3://b/p`"),
            (with("lake: {url: 'gs://b/p'}"), "lake.url", "the scheme `gs`"),
            (with("lake: {url: 's3:///p'}"), "lake.url", "without a bucket"),
            (with("lake: {url: 's3://k:hunter2@b/p'}"), "lake.url", "credentials inside"),
            (with("lake: {url: d, s3: {region: x}}"), "lake.s3", "is a folder"),
            (
                with("lake: {url: 's3://b', s3: {endpoint: 'minio:9000'}}"),
                "lake.s3.endpoint",
                "`http://`",
            ),
            (
                with("lake: {url: 's3://b', s3: {access_key: {env: PATH}}}"),
                "lake.s3.secret_key",
                "or neither",
            ),
            (warehouse("mysql://u@h/d"), "warehouse.url", "the scheme `mysql`"),
            (warehouse("postgre://u:hunter2@h/d"), "warehouse.url", "did you mean `postgres:`"),
            (warehouse("postgres://u:hunter2@h/d"), "warehouse.url", "password: {env: NAME}"),
            (warehouse("postgres://u@h/d?password=hunter2"), "warehouse.url", "{env: NAME}"),
            (warehouse("postgres://u@h/d?sslmode=require"), "warehouse.url", "`warehouse.tls`"),
            (warehouse("postgres://u@h/d?connect_timout=1"), "warehouse.url", "`connect_timeout`"),
            (warehouse("postgres://h/d"), "warehouse.url", "without a user"),
            (warehouse("postgres://u@h"), "warehouse.url", "without a database"),
            (warehouse("postgres://u@/d"), "warehouse.url", ""),
            (with("warehouse: {url: 'sqlite:w', schema: dwh}"), "warehouse.schema", "no schemas"),
            (
                with("warehouse: {url: 'postgres://u@h/d', schema: tidegate}"),
                "warehouse.schema",
                "Tidegate's own",
            ),
            (
                with("warehouse: {url: 'postgres://u@h/d', schema: 'a.b'}"),
                "warehouse.schema",
                "letters, digits",
            ),
            (warehouse("sqlite:"), "warehouse.url", "`sqlite:FILE`"),
            (warehouse("sqlite::memory:"), "warehouse.url", "`sqlite:FILE`"),
            (warehouse("sqlite://data/w.db"), "warehouse.url", "`sqlite:FILE`"),
            (
                with("warehouse: {url: 'sqlite:w', password: {env: PATH}}"),
                "warehouse.password",
                "no users",
            ),
            (
                with("warehouse: {url: 'postgres://u@h/d', password: {file: none}}"),
                "warehouse.password",
                "/nowhere/none",
            ),
            (
                with("warehouse: {url: 'postgres://u@h/d', tls: {mode: verify-full}}"),
                "warehouse.tls.ca",
                "certificate authority",
            ),
            (
                with("warehouse: {url: 'postgres://u@h/d', tls: {ca: x}}"),
                "warehouse.tls.mode",
                "`verify-full`",
            ),
            (
                with("warehouse: {url: 'sqlite:w', connections: 0}"),
                "warehouse.connections",
                "1 or more",
            ),
            (
                with("warehouse: {url: 'sqlite:w', lock_timeout: 0s}"),
                "warehouse.lock_timeout",
                "1ms or more",
            ),
            (with("memory: {budget: 31MiB}"), "memory.budget", "32MiB or more"),
            (with("park_retry: 0s"), "park_retry", "1ms or more"),
        ];
        for (text, field, said) in cases {
            let found = faults(&text);
            assert_eq!(found.len(), 1, "{text}: {found:#?}");
            assert_eq!(found[0].field, field, "{text}");
            let message = found[0].to_string();
            assert!(message.contains(said), "{said:?} in {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn paths_are_beside_the_node_file() {
        let mut parsed: Node = serde_saphyr::from_str(
            "kafka: {bootstrap: 'a:1', tls: {ca: tls/ca.pem, key: /abs/key}}\n\
             lake: {url: lake}\nwarehouse: {url: 'sqlite:w.db', password: {file: p}}\n",
        )
        .unwrap();
        resolve_paths(&mut parsed, Path::new("/etc/tidegate"));
        let tls = parsed.kafka.tls.as_ref().unwrap();
        assert_eq!(tls.ca.as_deref(), Some(Path::new("/etc/tidegate/tls/ca.pem")));
        assert_eq!(tls.key.as_deref(), Some(Path::new("/abs/key")));
        assert_eq!(parsed.feeds, Path::new("/etc/tidegate/feeds"));
        assert_eq!(parsed.volume, Path::new("/etc/tidegate/volume"));
        assert_eq!(parsed.lake.unwrap().url, "/etc/tidegate/lake");
        let warehouse = parsed.warehouse.unwrap();
        assert_eq!(warehouse.url, "sqlite:/etc/tidegate/w.db");
        assert_eq!(warehouse.password, Some(Secret::File("/etc/tidegate/p".into())));
    }
}
