//! A feed's rows, as its reader may see them.

use std::str::FromStr;
use std::sync::Arc;

use actix_web::http::header::{ACCEPT, CACHE_CONTROL, LINK};
use actix_web::{HttpRequest, HttpResponse, web};
use arrow::array::RecordBatch;
use arrow::compute::{BatchCoalescer, concat_batches};
use arrow::error::ArrowError;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tracing::warn;
use utoipa::{IntoParams, ToSchema};

use super::caller::ReadPermit;
use super::format::{Encoder, Format};
use super::{Api, Caller, Problem, query};
use crate::config::Feed;
use crate::governance::{Access, Action, Predicate, Salt};
use crate::lake::scan::{At, Position};
use crate::reads::{
    BATCH_ROWS, Cursor, LakeReading, Place, Question, Seal, Sight, WarehouseReading,
};
use crate::record::SinkError;
use crate::warehouse::After;

/// Most rows of a page.
pub const MOST_ROWS: usize = 10_000;
/// A page ends behind the batch with which it holds more than so many bytes.
const PAGE_BYTES: usize = 32 << 20;
/// Pieces of an answer that wait for their reader.
const AHEAD: usize = 2;

/// Which of the sinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Lake,
    Warehouse,
}

/// What is asked of a feed's rows.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RowsQuery {
    /// `lake`: all that was committed there. `warehouse`: the present rows of a table feed. By default
    /// the lake, if the feed has that side.
    #[param(inline)]
    source: Option<Source>,
    /// Names of columns, joined by commas; by default all that you may see.
    #[param(example = "id,total")]
    columns: Option<String>,
    /// Only rows of which this is true: comparisons of columns with literals, `IN`, `BETWEEN`,
    /// `IS NULL`, joined by `AND`, `OR`, `NOT`, as SQL has them. Columns that are masked for you cannot
    /// be compared with.
    #[serde(rename = "where")]
    #[param(example = "total >= 10 AND city IN ('Bern', 'Basel')")]
    filter: Option<String>,
    /// At most so many rows, with a link to the next ones; without it all rows are sent, in one answer.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
    /// Where the page before ended, from its link. Everything else is to be asked as it was.
    cursor: Option<String>,
    /// A version of the lake's table.
    version: Option<u64>,
    /// The lake's table as it was then (RFC 3339).
    #[param(example = "2026-01-31T00:00:00Z")]
    as_of: Option<String>,
}

/// What a query asks for, understood.
struct Asked {
    source: Option<Source>,
    question: Question,
    limit: Option<usize>,
    at: At,
    cursor: Option<String>,
    format: Format,
}

impl RowsQuery {
    fn read(self, accept: &str) -> Result<Asked, Problem> {
        let columns = self.columns.map(|text| text.split(',').map(str::to_owned).collect());
        let filter = self.filter.as_deref().map(Predicate::from_str).transpose();
        let filter = filter.map_err(|fault| Problem::bad_request(format!("where: {fault}")))?;
        if self.limit.is_some_and(|limit| !(1..=MOST_ROWS).contains(&limit)) {
            return Err(Problem::bad_request(format!("limit: 1 to {MOST_ROWS}")));
        }
        let at = match (self.version, self.as_of.as_deref()) {
            (Some(_), Some(_)) => {
                return Err(Problem::bad_request("`version` or `as_of`, and not both"));
            }
            (Some(version), None) => At::Version(version),
            (None, Some(time)) => {
                let time = DateTime::parse_from_rfc3339(time).map_err(|_| {
                    Problem::bad_request("as_of: a time such as 2026-01-31T00:00:00Z")
                })?;
                At::Time(time.timestamp_millis())
            }
            (None, None) => At::Latest,
        };
        if at != At::Latest && self.source == Some(Source::Warehouse) {
            return Err(Problem::bad_request("the warehouse has present rows alone: ask the lake"));
        }
        let known = Format::ALL.map(Format::media_type).join(", ");
        let format = Format::accepted(accept)
            .ok_or_else(|| Problem::not_acceptable(format!("there is {known}")))?;
        let question = Question { columns, filter };
        let (source, limit, cursor) = (self.source, self.limit, self.cursor);
        if cursor.is_some() && limit.is_none() {
            return Err(Problem::bad_request(
                "a `cursor` goes with the `limit` of the page before",
            ));
        }
        Ok(Asked { source, question, limit, at, cursor, format })
    }
}

/// Read a feed's rows, as the permission rows show them to you.
///
/// Masked values are as the mask leaves them, hidden columns are absent, and rows that you may not see are
/// not counted anywhere. Large answers are streamed: one that ends early ends with a broken connection.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/rows",
    tag = "feeds",
    params(("feed" = String, Path, description = "Name of the feed"), RowsQuery),
    responses(
        (status = 200, description = "The rows, in the format that `Accept` names: JSON lines by default",
         headers(("Link" = String, description = "`rel=next`: the page behind this one"),
                 ("Tidegate-Version" = u64, description = "The version of the lake's table, if it has any")),
         content((String = "application/x-ndjson"), (String = "text/csv"),
                 (Vec<u8> = "application/vnd.apache.parquet"),
                 (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        Problem,
    ),
)]
pub async fn rows(
    request: HttpRequest,
    caller: Caller,
    feed: web::Path<String>,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (feed, api) = (feed.into_inner(), api.into_inner());
    // Decided before anything is looked at: what is denied takes no longer where there is something.
    let (access, rules) = api.access(&caller, Action::Read, &feed).await?;
    let accept = request.headers().get(ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or("*/*");
    let asked = query::<RowsQuery>(&request)?.read(accept)?;
    let permit = Arc::new(api.limits.read(&caller)?);
    let reader = Reader { api, caller, access, salt: rules.salt.clone(), name: feed, permit };
    let link = |cursor: &str| next_link(&request, cursor);
    reader.answer(asked, link).await
}

/// The same request with another cursor.
fn next_link(request: &HttpRequest, cursor: &str) -> String {
    let pairs = url::form_urlencoded::parse(request.query_string().as_bytes());
    let others = pairs.filter(|(name, _)| name != "cursor");
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(others)
        .append_pair("cursor", cursor)
        .finish();
    format!("<{}?{query}>; rel=\"next\"", request.path())
}

/// A caller who may read, and what of.
struct Reader {
    api: Arc<Api>,
    caller: Caller,
    access: Access,
    salt: Salt,
    name: String,
    /// Held by whatever works for the answer.
    permit: Arc<ReadPermit>,
}

/// Rows as they may be seen, and where to go on behind each batch.
type SeenRows = BoxStream<'static, Result<(RecordBatch, Place), SinkError>>;

/// All that an answer is made from.
struct Opened {
    sight: Sight,
    rows: Rows,
    version: Option<u64>,
}

enum Rows {
    /// With where they begin.
    Lake(SeenRows, Option<Place>),
    /// Behind a row, if any.
    Warehouse(WarehouseReading, Option<After>),
}

impl Reader {
    async fn answer(
        self,
        asked: Asked,
        link: impl Fn(&str) -> String,
    ) -> Result<HttpResponse, Problem> {
        let Some((_, feed)) = self.api.find(&self.name).await? else {
            return Err(self.no_feed("allowed, and there is no such feed").await);
        };
        let source = self.source(&feed, asked.source)?;
        let meant = self.meant(&asked, source);
        let place = match &asked.cursor {
            Some(cursor) => Some(self.place(cursor, &meant).await?),
            None => None,
        };
        let opened = match source {
            Source::Lake => self.open_lake(&feed, &asked, place).await?,
            Source::Warehouse => self.open_warehouse(&feed, &asked, place).await?,
        };
        let recorded = Some(&opened.sight);
        self.api.record(&self.caller, Action::Read, &self.name, &self.access, recorded).await?;
        let mut answer = HttpResponse::Ok();
        answer.insert_header(("content-type", asked.format.media_type()));
        answer.insert_header((CACHE_CONTROL, "no-store"));
        if let Some(version) = opened.version {
            answer.insert_header(("tidegate-version", version.to_string()));
        }
        match asked.limit {
            Some(limit) => {
                let (body, next) = self.page(opened, asked.format, limit).await?;
                if let Some(place) = next {
                    let cursor = self.cursor(place, meant)?;
                    answer.insert_header((LINK, link(&cursor)));
                }
                Ok(answer.body(body))
            }
            None => Ok(answer.streaming(self.stream(opened, asked.format))),
        }
    }

    fn source(&self, feed: &Feed, wish: Option<Source>) -> Result<Source, Problem> {
        let (lake, warehouse) = (
            feed.lake.is_some() && self.api.lake.is_some(),
            feed.warehouse.is_some() && feed.kind == crate::config::FeedKind::Table,
        );
        match wish {
            Some(Source::Lake) if !lake => {
                Err(Problem::bad_request("the feed has no lake side: source=warehouse"))
            }
            Some(Source::Warehouse) if !warehouse => Err(Problem::bad_request(
                "only a table feed with a warehouse side has present rows: source=lake",
            )),
            Some(source) => Ok(source),
            None if lake => Ok(Source::Lake),
            None if warehouse => Ok(Source::Warehouse),
            None => Err(Problem::not_found("the feed keeps nothing that this node reads")),
        }
    }

    /// What a cursor is good for: the same question with the same rights.
    fn meant(&self, asked: &Asked, source: Source) -> Vec<u8> {
        let all = format!("{source:?} {:?} {:?} {:?}", asked.question, asked.at, self.access);
        Sha256::digest(all).to_vec()
    }

    fn cursor(&self, place: Place, asked: Vec<u8>) -> Result<String, Problem> {
        let cursor = Cursor {
            principal: self.caller.principal().name.clone(),
            feed: self.name.clone(),
            asked,
            place,
            made_ms: Utc::now().timestamp_millis(),
        };
        let closed = Seal::of(&self.salt).and_then(|seal| seal.close(&cursor));
        closed.ok_or_else(|| Problem::internal("making a cursor", "it cannot be sealed"))
    }

    async fn place(&self, cursor: &str, meant: &[u8]) -> Result<Place, Problem> {
        let now = Utc::now().timestamp_millis();
        let life = self.api.cursor_life;
        let name = &self.caller.principal().name;
        let opened = Seal::of(&self.salt).and_then(|seal| seal.open(cursor, name, now, life));
        match opened {
            Some(cursor) if cursor.feed == self.name && cursor.asked == meant => Ok(cursor.place),
            found => {
                let why = match found {
                    Some(_) => "a cursor of another question, or of other rights",
                    None => "a cursor that is forged, another's or too old",
                };
                let detail = "cursor: it is not of this question, or too old: ask again without it";
                Err(self.denied(why.to_owned(), Problem::bad_request(detail)).await)
            }
        }
    }

    /// What is seen of what is asked for.
    async fn asked_of(&self, sight: Option<Sight>, asked: &Asked) -> Result<Sight, Problem> {
        let Some(sight) = sight else {
            let why = "the rows allow it, and show nothing of what this sink has";
            return Err(self.no_feed(why).await);
        };
        match asked.question.of(&sight) {
            Ok(sight) => Ok(sight),
            // A question about what its asker may not see is in the audit, too.
            Err(refusal) => Err(self.denied(refusal.to_string(), refusal.into()).await),
        }
    }

    async fn no_feed(&self, why: &str) -> Problem {
        self.denied(why.to_owned(), Problem::no_feed(&self.name)).await
    }

    async fn denied(&self, why: String, told: Problem) -> Problem {
        self.api.denied(&self.caller, Action::Read.name(), &self.name, why, told).await
    }

    async fn open_lake(
        &self,
        feed: &Feed,
        asked: &Asked,
        place: Option<Place>,
    ) -> Result<Opened, Problem> {
        let (at, from, given) = match place {
            None => (asked.at.clone(), Position::default(), 0),
            Some(Place::Lake { pin, from, given }) => (At::Pinned(pin), from, given),
            Some(Place::Warehouse(_)) => {
                return Err(Problem::bad_request("cursor: of another source"));
            }
        };
        // Before the table is looked at, which tells of itself.
        let sight = Sight::of_lake(feed, &self.access, &self.salt);
        let sight = sight.map_err(|error| Problem::of_sink("a feed's layout", &error))?;
        let sight = self.asked_of(sight, asked).await?;
        let scan = self.api.scans.open(&self.api, feed, at).await?;
        let version = scan.version();
        let pin = scan.pin().clone();
        let filter = asked.question.filter.clone();
        let reading = LakeReading { scan, sight: sight.clone(), filter };
        let begin = Some(Place::Lake { pin: pin.clone(), from, given });
        let rows = reading.rows(from).map_ok(move |seen| {
            (seen.rows, Place::Lake { pin: pin.clone(), from: seen.next, given: 0 })
        });
        Ok(Opened { sight, rows: Rows::Lake(rows.boxed(), begin), version })
    }

    async fn open_warehouse(
        &self,
        feed: &Arc<Feed>,
        asked: &Asked,
        place: Option<Place>,
    ) -> Result<Opened, Problem> {
        let after: Option<After> = match place {
            None => None,
            Some(Place::Warehouse(after)) => Some(after),
            Some(Place::Lake { .. }) => {
                return Err(Problem::bad_request("cursor: of another source"));
            }
        };
        let sight = Sight::of_warehouse(feed, &self.access, &self.salt);
        let sight = self.asked_of(sight, asked).await?;
        let (reader, filter) = (self.api.rows.clone(), asked.question.filter.clone());
        let reading = WarehouseReading { reader, feed: feed.clone(), sight: sight.clone(), filter };
        Ok(Opened { sight, rows: Rows::Warehouse(reading, after), version: None })
    }

    /// So many rows, and where the next page begins.
    async fn page(
        &self,
        opened: Opened,
        format: Format,
        limit: usize,
    ) -> Result<(Bytes, Option<Place>), Problem> {
        let Opened { sight, rows, .. } = opened;
        let (within, permit) = (self.api.read_time, self.permit.clone());
        let collected = self.api.on_io(async move {
            // Whoever goes away leaves the work to be ended here, and counted until then.
            let _permit = permit;
            let collecting = async {
                match rows {
                    Rows::Lake(rows, begin) => lake_page(rows, begin, limit).await,
                    Rows::Warehouse(reading, after) => warehouse_page(&reading, after, limit).await,
                }
            };
            tokio::time::timeout(within, collecting).await
        });
        let late = || Problem::unavailable("reading took longer than `api.limits.read_time`");
        let collected = collected.await?.map_err(|_| late())?;
        let (batches, next) = collected.map_err(|error| unread(&error))?;
        let encoding = tokio::task::spawn_blocking(move || {
            let schema = sight.schema();
            let mut encoder = Encoder::new(format, &schema, sight.kinds())?;
            // As one: where batches ended tells of rows that are not seen.
            let rows = encoder.rows(&concat_batches(&schema, &batches)?)?;
            Ok::<_, ArrowError>([rows, encoder.end()?].concat())
        });
        let encoded = encoding.await.map_err(|error| Problem::internal("encoding rows", error))?;
        let body = encoded.map_err(|error| Problem::internal("encoding rows", error))?;
        Ok((body.into(), next))
    }

    /// All rows, as their reader takes them. What ends before the last of them ends as an error.
    fn stream(
        self,
        opened: Opened,
        format: Format,
    ) -> impl Stream<Item = Result<Bytes, StreamEnd>> + use<> {
        let (send, answer) = mpsc::channel::<Option<Bytes>>(AHEAD);
        let io = self.api.io.clone();
        io.spawn(async move {
            let carried =
                tokio::time::timeout(self.api.read_time, self.carry(opened, format, &send));
            let late = |_| Err(StreamEnd("it took longer than `api.limits.read_time`".to_owned()));
            match carried.await.unwrap_or_else(late) {
                // Only this says that nothing is missing.
                Ok(()) => drop(send.send(None).await),
                Err(end) => {
                    warn!(target: "tidegate::api", feed = self.name, %end, "a read was cut off");
                }
            }
        });
        stream::unfold(Some(answer), async |answer| {
            let mut answer = answer?;
            match answer.recv().await {
                Some(Some(bytes)) => Some((Ok(bytes), Some(answer))),
                Some(None) => None,
                None => Some((Err(StreamEnd("it was cut off".to_owned())), None)),
            }
        })
    }

    async fn carry(
        &self,
        opened: Opened,
        format: Format,
        send: &mpsc::Sender<Option<Bytes>>,
    ) -> Result<(), StreamEnd> {
        let Opened { sight, rows, .. } = opened;
        let mut rows = match rows {
            Rows::Lake(rows, _) => rows,
            Rows::Warehouse(reading, after) => {
                let rows = reading.rows(after, BATCH_ROWS).await.map_err(said)?;
                rows.map_ok(|seen| (seen.rows, Place::Warehouse(seen.next))).boxed()
            }
        };
        let schema = sight.schema();
        let mut encoder = Encoder::new(format, &schema, sight.kinds()).map_err(said)?;
        // Even pieces: where batches ended tells of rows that are not seen.
        let mut pieces = BatchCoalescer::new(schema, BATCH_ROWS);
        loop {
            let next = tokio::select! {
                next = rows.try_next() => next.map_err(said)?,
                () = send.closed() => return Err(StreamEnd("its reader is gone".to_owned())),
            };
            self.still_may()?;
            let ended = next.is_none();
            match next {
                Some((rows, _)) => pieces.push_batch(rows).map_err(said)?,
                None => pieces.finish_buffered_batch().map_err(said)?,
            }
            while let Some(piece) = pieces.next_completed_batch() {
                let encoding = tokio::task::spawn_blocking(move || {
                    let bytes = encoder.rows(&piece)?;
                    Ok::<_, ArrowError>((encoder, bytes))
                });
                let bytes;
                (encoder, bytes) = encoding.await.map_err(said)?.map_err(said)?;
                hand(send, bytes).await?;
            }
            if ended {
                self.still_may()?;
                return hand(send, encoder.end().map_err(said)?).await;
            }
        }
    }

    /// A grant that is taken back, or a token, ends what it began.
    fn still_may(&self) -> Result<(), StreamEnd> {
        match self.api.still_may(&self.caller, &self.name, &self.access) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StreamEnd("what may be read has changed".to_owned())),
            Err(undecided) => Err(said(undecided)),
        }
    }
}

async fn hand(send: &mpsc::Sender<Option<Bytes>>, bytes: Bytes) -> Result<(), StreamEnd> {
    if bytes.is_empty() {
        return Ok(());
    }
    send.send(Some(bytes)).await.map_err(|_| StreamEnd("its reader is gone".to_owned()))
}

/// Why the rest of an answer does not come.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StreamEnd(String);

fn said(error: impl std::fmt::Display) -> StreamEnd {
    StreamEnd(error.to_string())
}

fn unread(error: &SinkError) -> Problem {
    Problem::of_sink("reading rows", error)
}

/// Rows that were collected, and where to go on if there may be more.
type Page = (Vec<RecordBatch>, Option<Place>);

/// Up to `limit` rows of the lake. A batch is cut where the page is full: its rows never change, so that the
/// next page can count them off again.
async fn lake_page(
    mut rows: SeenRows,
    begin: Option<Place>,
    limit: usize,
) -> Result<Page, SinkError> {
    let (mut batches, mut count, mut bytes) = (Vec::new(), 0, 0);
    let mut skip = match begin {
        Some(Place::Lake { given, .. }) => given as usize,
        _ => 0,
    };
    let mut place = begin;
    while let Some((batch, next)) = rows.try_next().await? {
        let passed = skip.min(batch.num_rows());
        let seen = batch.slice(passed, batch.num_rows() - passed);
        let room = limit - count;
        if seen.num_rows() > room
            && let Some(Place::Lake { pin, from, .. }) = place
        {
            batches.push(seen.slice(0, room));
            let given = (skip + room) as u64;
            return Ok((batches, Some(Place::Lake { pin, from, given })));
        }
        count += seen.num_rows();
        bytes += seen.get_array_memory_size();
        batches.push(seen);
        (place, skip) = (Some(next), skip - passed);
        // Whether anything is behind it would take reading on.
        if count == limit || (bytes > PAGE_BYTES && skip == 0) {
            return Ok((batches, place));
        }
    }
    Ok((batches, None))
}

/// Up to `limit` rows of the warehouse, where to go on is behind a row: so no batch is larger than there is
/// room, and what does not fit is asked for again.
async fn warehouse_page(
    reading: &WarehouseReading,
    mut after: Option<After>,
    limit: usize,
) -> Result<Page, SinkError> {
    let (mut batches, mut count, mut bytes) = (Vec::new(), 0, 0);
    'behind: loop {
        let mut rows = reading.rows(after.clone(), (limit - count).min(BATCH_ROWS)).await?.boxed();
        while let Some(seen) = rows.try_next().await? {
            if seen.rows.num_rows() > limit - count {
                continue 'behind;
            }
            count += seen.rows.num_rows();
            bytes += seen.rows.get_array_memory_size();
            batches.push(seen.rows);
            after = Some(seen.next);
            if count == limit || bytes > PAGE_BYTES {
                return Ok((batches, after.map(Place::Warehouse)));
            }
        }
        return Ok((batches, None));
    }
}
