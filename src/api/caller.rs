//! Who asks: a bearer token becomes a principal, within limits.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, web};
use chrono::Utc;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter, clock::DefaultClock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Api, Problem};
use crate::actors::governor::Undecided;
use crate::config::{ApiLimits, SecretText};
use crate::governance::{Access, Action, AuditRow, Decision, Pattern, Principal, Unfit, id_of};
use crate::grants::{Hand, Rules};
use crate::oidc::{Refusal, SignIn};
use crate::reads::Sight;
use crate::telemetry::metrics;
use crate::telemetry::trace::{Span, Start};
use crate::verify::Chosen;

/// Who asks, as a good token says.
#[derive(Clone)]
pub struct Caller {
    pub hand: Hand,
    proof: Proof,
}

/// What shows who asks. It may end before its answer does.
#[derive(Clone)]
enum Proof {
    /// A token of our own.
    Token(SecretText),
    /// One of the issuer's.
    SignIn(SignIn),
}

impl Caller {
    pub fn principal(&self) -> &Principal {
        &self.hand.by
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let Some(api) = request.app_data::<web::Data<Api>>() else {
                return Err(Problem::internal("a request", "the server has no state"));
            };
            known(api, &request).await
        })
    }
}

async fn known(api: &Api, request: &HttpRequest) -> Result<Caller, Problem> {
    let now = Utc::now().timestamp_millis();
    let address = request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
    let bearer = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    let bearer = bearer.and_then(|it| it.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let bearer = bearer.map(|(_, bearer)| bearer.trim());
    let hand = |by: Principal| Hand {
        by,
        origin: address.to_string(),
        node: api.node.clone(),
        trace_id: trace_id(request),
    };
    let admitted = |(principal, proof): (Principal, Proof)| {
        api.limits.admit_caller(&principal.name)?;
        Ok(Caller { hand: hand(principal), proof })
    };
    if let Some(proven) = bearer.map(|it| api.recognise(it, now)).transpose()?.flatten() {
        return admitted(proven);
    }
    // Before anything that costs more than a hash.
    api.limits.admit_stranger(address)?;
    let Some(bearer) = bearer else { return Err(Problem::unknown_caller()) };
    let (unfit, told) = match api.identify(bearer, now).await? {
        Ok(proven) => return admitted(proven),
        Err(Refusal::Unfit(unfit)) => (unfit, Problem::unknown_caller()),
        Err(Refusal::Undecided(why)) => {
            let told = "tokens of the issuer cannot be judged now: its keys are not known";
            (Unfit { who: None, why }, Problem::unavailable(told))
        }
    };
    let name = unfit.who.unwrap_or_else(|| "nobody".to_owned());
    let somebody = hand(Principal { name, ..Principal::user("") });
    api.governance.record(vec![somebody.audit("sign-in", None, false, unfit.why)]).await?;
    Err(told)
}

fn signed_in(sign_in: SignIn) -> (Principal, Proof) {
    (sign_in.identity.principal.clone(), Proof::SignIn(sign_in))
}

/// That of the request, or of the caller, if he sends one as W3C's trace context has it.
fn trace_id(request: &HttpRequest) -> Option<String> {
    let here = Span::current().context();
    if here.is_valid() {
        return Some(here.trace_id().to_string());
    }
    let parent = request.headers().get("traceparent")?.to_str().ok()?;
    let id = parent.split('-').nth(1)?;
    let sound = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    sound.then(|| id.to_owned())
}

impl Api {
    /// Whose a token is, where that is known without asking or computing much.
    fn recognise(&self, bearer: &str, now: i64) -> Result<Option<(Principal, Proof)>, Problem> {
        if let Some(principal) = self.governance.holder(bearer, now)? {
            return Ok(Some((principal, Proof::Token(SecretText::new(bearer.to_owned())))));
        }
        let known = self.issuer.as_ref().and_then(|issuer| issuer.recognise(bearer, now));
        Ok(known.map(signed_in))
    }

    /// Whose a token of the issuer is.
    async fn identify(
        &self,
        bearer: &str,
        now: i64,
    ) -> Result<Result<(Principal, Proof), Refusal>, Problem> {
        match &self.issuer {
            Some(issuer) if id_of(bearer).is_none() => {
                let (issuer, bearer) = (issuer.clone(), bearer.to_owned());
                let found = self.on_io(async move { issuer.identify(&bearer, now).await }).await?;
                Ok(found.map(signed_in))
            }
            _ => Ok(Err(Refusal::nobodys())),
        }
    }

    /// What the rows let the caller do with a feed. What they do not is in the audit, and looks as if
    /// there were no such feed.
    pub async fn access(
        &self,
        caller: &Caller,
        action: Action,
        feed: &str,
    ) -> Result<(Access, Arc<Rules>), Problem> {
        // A row about `*` is about no name but a feed's, and `sales/` is none: it would be of `sales` elsewhere.
        if feed.contains('*') || feed.parse::<Pattern>().is_err() {
            let why = "it is no feed's name".to_owned();
            return Err(self.refuse(caller, action.name(), feed, why).await);
        }
        let now = Utc::now().timestamp_millis();
        let rules = self.governance.rules(now)?;
        let span = Span::current().child(
            Start::inner("decide")
                .with("tidegate.action", action.name())
                .with("tidegate.feed", feed.to_owned()),
        );
        let decision = rules.decide(caller.principal(), action, feed, now);
        span.set("tidegate.allowed", decision.is_allowed());
        match decision {
            Decision::Allowed(access) => {
                metrics::DECISIONS.add([action.name(), "allowed"], 1);
                Ok((access, rules))
            }
            Decision::Denied(by) => {
                metrics::DECISIONS.add([action.name(), "denied"], 1);
                let why = by.map_or("no row allows it".to_owned(), |row| format!("row {row}"));
                Err(self.refuse(caller, action.name(), feed, why).await)
            }
        }
    }

    /// Records that a caller was denied a feed, and answers what he is told.
    pub async fn refuse(&self, caller: &Caller, action: &str, feed: &str, why: String) -> Problem {
        self.denied(caller, action, feed, why, Problem::no_feed(feed)).await
    }

    /// The same with another answer.
    pub async fn denied(
        &self,
        caller: &Caller,
        action: &str,
        feed: &str,
        why: String,
        told: Problem,
    ) -> Problem {
        // Names of feeds are short; what is not one is nobody's to fill the audit with.
        let feed: String = feed.chars().take(200).collect();
        let row = caller.hand.audit(action, Some(&feed), false, why);
        match self.governance.record(vec![row]).await {
            Ok(()) => told,
            Err(full) => full.into(),
        }
    }

    /// Whether a caller still is who he was, and may read a feed as he might.
    pub fn still_may(
        &self,
        caller: &Caller,
        feed: &str,
        access: &Access,
    ) -> Result<bool, Undecided> {
        let now = Utc::now().timestamp_millis();
        let same = match &caller.proof {
            Proof::Token(bearer) => {
                self.governance.holder(bearer.reveal(), now)?.as_ref() == Some(caller.principal())
            }
            Proof::SignIn(sign_in) => {
                self.issuer.as_ref().is_some_and(|issuer| issuer.still(sign_in, now))
            }
        };
        let rules = self.governance.rules(now)?;
        let decided = rules.decide(caller.principal(), Action::Read, feed, now);
        Ok(same && matches!(decided, Decision::Allowed(now) if now == *access))
    }

    /// Records that a caller does what he may.
    pub async fn record(
        &self,
        caller: &Caller,
        action: Action,
        feed: &str,
        access: &Access,
        sight: Option<&Sight>,
    ) -> Result<(), Problem> {
        let row = caller.hand.audit(action.name(), Some(feed), true, rows_of(access));
        let row = AuditRow {
            columns: sight.map(Sight::columns_in_words).unwrap_or_default(),
            rows: sight.map(Sight::rows_in_words),
            ..row
        };
        Ok(self.governance.record(vec![row]).await?)
    }

    /// Records that a caller changes what becomes of these records.
    pub async fn record_change(
        &self,
        caller: &Caller,
        action: &str,
        access: &Access,
        chosen: &Chosen,
        why: &str,
    ) -> Result<(), Problem> {
        let why = format!("{}: {why}", rows_of(access));
        let row = caller.hand.audit(action, chosen.feed.as_deref(), true, why);
        let row = AuditRow { rows: Some(chosen.to_string()), ..row };
        Ok(self.governance.record(vec![row]).await?)
    }
}

/// The permission rows that allow something.
fn rows_of(access: &Access) -> String {
    let rows: Vec<String> = access.rows().map(|row| format!("row {row}")).collect();
    rows.join(", ")
}

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// What callers may take, and what they have taken.
pub struct Limits {
    callers: Keyed<String>,
    strangers: Keyed<IpAddr>,
    /// Since the limiters last forgot who has not come for a while.
    asked: AtomicU64,
    reads: Arc<Semaphore>,
    each: usize,
    readers: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Admitted requests after which those who stayed away are forgotten.
const FORGET_EVERY: u64 = 10_000;

/// A read that is being answered. Dropped with the answer.
pub struct ReadPermit {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Limits {
    pub fn new(limits: &ApiLimits) -> Self {
        let one = NonZeroU32::MIN;
        let rate = NonZeroU32::new(limits.requests_per_second).unwrap_or(one);
        let burst = NonZeroU32::new(limits.burst).unwrap_or(one);
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self {
            callers: RateLimiter::hashmap(quota),
            strangers: RateLimiter::hashmap(quota),
            asked: AtomicU64::new(0),
            reads: Arc::new(Semaphore::new(limits.reads)),
            each: limits.reads_each,
            readers: Mutex::default(),
        }
    }

    fn admit_caller(&self, name: &String) -> Result<(), Problem> {
        self.forget();
        let admitted = self.callers.check_key(name);
        admitted.map_err(|_| Problem::too_many("more requests than `api.limits` gives one caller"))
    }

    fn admit_stranger(&self, address: IpAddr) -> Result<(), Problem> {
        self.forget();
        let admitted = self.strangers.check_key(&address);
        admitted.map_err(|_| {
            Problem::too_many("more requests without a good token than one address has")
        })
    }

    fn forget(&self) {
        if self.asked.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.callers.retain_recent();
            self.strangers.retain_recent();
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            readers.retain(|_, own| own.available_permits() < self.each);
        }
    }

    /// Room for one more read.
    pub fn read(&self, caller: &Caller) -> Result<ReadPermit, Problem> {
        let own = {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Semaphore::new(self.each));
            readers.entry(caller.principal().name.clone()).or_insert_with(new).clone()
        };
        let full = |whose: &str| {
            Problem::too_many(format!("{whose} reads are being answered: end one, or come again"))
        };
        let own = own.try_acquire_owned().map_err(|_| full("as many of your"))?;
        let all = self.reads.clone().try_acquire_owned().map_err(|_| full("as many"))?;
        Ok(ReadPermit { _all: all, _own: own })
    }
}
