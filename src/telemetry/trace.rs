//! Spans: what each is called and what it says, by OpenTelemetry's conventions for messaging, databases and HTTP.
//!
//! A batch has a trace of its own: `poll`, below it `process`, below that one delivery for each sink. What many
//! batches share (a staged file, a commit, a transaction) has a trace of its own too, linked with theirs in both
//! directions. A span that is linked with a sampled one is sampled, so that a way once begun is told to its end.
//!
//! Without an exporter no span is made, and none of this costs more than asking whether there is one.

mod batch;
mod sampler;
mod statement;

use std::borrow::Cow;
use std::future::Future;
use std::sync::OnceLock;
use std::time::SystemTime;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    FutureExt, Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceState,
    Tracer,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;

pub use batch::{Delivered, Landed, LandedFile, Polled, Processing, mirrored};
pub use sampler::Linked;
pub use statement::Statement;

/// Names by OpenTelemetry's conventions.
pub use opentelemetry_semantic_conventions::attribute as convention;

/// Links of one span: the SDK keeps no more.
pub const MOST_LINKS: usize = 128;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Spans go there from now on. Only the first one counts.
pub fn keep(tracer: SdkTracer) {
    // A node that is started a second time in one process keeps the exporter of the first.
    let _ = TRACER.set(tracer);
}

/// Whether anybody keeps spans.
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// Goes on until its last clone is dropped, unless it is ended before. Nothing, where no spans are kept.
#[derive(Clone, Default)]
pub struct Span(Option<Context>);

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Span({:?})", self.context().span_id())
    }
}

/// A span that is to begin.
#[must_use]
pub struct Start {
    name: Cow<'static, str>,
    kind: SpanKind,
    attributes: Vec<KeyValue>,
    links: Vec<Link>,
    since: Option<SystemTime>,
}

impl Start {
    pub fn new(name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Self {
        let (attributes, links) = (Vec::new(), Vec::new());
        Self { name: name.into(), kind, attributes, links, since: None }
    }

    /// Within the node.
    pub fn inner(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, SpanKind::Internal)
    }

    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Those that are sampled: nothing is behind the others.
    pub fn linked(mut self, to: impl IntoIterator<Item = SpanContext>) -> Self {
        let sampled = to.into_iter().filter(SpanContext::is_sampled).take(MOST_LINKS);
        self.links.extend(sampled.map(Link::with_context));
        self
    }

    pub fn since(mut self, start: SystemTime) -> Self {
        self.since = Some(start);
        self
    }

    /// Begins a trace.
    pub fn root(self) -> Span {
        self.below(&Context::new())
    }

    /// Begins below what is going on here, or a trace where that is nothing.
    pub fn here(self) -> Span {
        self.below(&Context::current())
    }

    pub fn below(self, parent: &Context) -> Span {
        let Some(tracer) = TRACER.get() else { return Span::default() };
        let Self { name, kind, attributes, links, since } = self;
        let mut builder = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_attributes(attributes)
            .with_links(links);
        builder.start_time = since;
        let span = tracer.build_with_context(builder, parent);
        Span(Some(parent.with_span(span)))
    }
}

/// The span of whoever sent something, as W3C's trace context has it, without what others wrote beside it.
pub fn sender(of: &dyn Extractor) -> Option<SpanContext> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), of);
    let span = context.span();
    let sent = Some(span.span_context()).filter(|sent| sent.is_valid())?;
    let (trace, span, flags) = (sent.trace_id(), sent.span_id(), sent.trace_flags());
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}

impl Span {
    /// What is going on here.
    pub fn current() -> Self {
        let context = Context::current();
        Self(context.has_active_span().then_some(context))
    }

    /// Begins below this one.
    pub fn child(&self, start: Start) -> Span {
        match &self.0 {
            Some(context) => start.below(context),
            None => Span::default(),
        }
    }

    /// By which others link to it.
    pub fn context(&self) -> SpanContext {
        self.0.as_ref().map_or(SpanContext::NONE, |context| context.span().span_context().clone())
    }

    /// Whether what is said of it is kept.
    pub fn is_kept(&self) -> bool {
        self.0.as_ref().is_some_and(|context| context.span().is_recording())
    }

    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    pub fn link(&self, to: &SpanContext) {
        if let Some(context) = self.0.as_ref().filter(|_| to.is_sampled()) {
            context.span().add_link(to.clone(), Vec::new());
        }
    }

    pub fn event(&self, name: &'static str, attributes: Vec<KeyValue>) {
        if let Some(context) = &self.0 {
            context.span().add_event(name, attributes);
        }
    }

    /// It did not do what it was to do. `kind` is of few values; neither tells anything of records.
    pub fn failed(&self, kind: &'static str, why: impl Into<Cow<'static, str>>) {
        if let Some(context) = &self.0 {
            let span = context.span();
            span.set_attribute(KeyValue::new(convention::ERROR_TYPE, kind));
            span.set_status(Status::error(why));
        }
    }

    /// Ends it although clones of it may be left, below which others begin.
    pub fn end(&self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }

    /// Runs `work` as what is going on in this span.
    pub fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.with_context(self.0.clone().unwrap_or_default())
    }
}
