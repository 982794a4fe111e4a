//! Which traces are kept.

use opentelemetry::Context;
use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

/// Keeps what begins with a link to something that is kept, and of the rest what another sampler keeps.
#[derive(Debug, Clone)]
pub struct Linked(pub Box<dyn ShouldSample>);

impl ShouldSample for Linked {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[opentelemetry::KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let begins = !parent.is_some_and(|it| it.span().span_context().is_valid());
        if begins && links.iter().any(|link| link.span_context.is_sampled()) {
            let (attributes, trace_state) = (Vec::new(), TraceState::default());
            let decision = SamplingDecision::RecordAndSample;
            return SamplingResult { decision, attributes, trace_state };
        }
        self.0.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags};
    use opentelemetry_sdk::trace::Sampler;

    use super::*;

    fn of(flags: TraceFlags) -> SpanContext {
        let (trace, span) = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]));
        SpanContext::new(trace, span, flags, true, TraceState::default())
    }

    fn decided(parent: Option<&Context>, links: &[Link]) -> SamplingDecision {
        let never = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
        let (id, kind) = (TraceId::from_bytes([9; 16]), SpanKind::Internal);
        Linked(Box::new(never)).should_sample(parent, id, "x", &kind, &[], links).decision
    }

    #[test]
    fn a_way_once_begun_is_told_to_its_end() {
        let link = |flags| [Link::with_context(of(flags))];
        assert_eq!(decided(None, &[]), SamplingDecision::Drop);
        assert_eq!(decided(None, &link(TraceFlags::default())), SamplingDecision::Drop);
        assert_eq!(decided(None, &link(TraceFlags::SAMPLED)), SamplingDecision::RecordAndSample);
        // Below another its decision counts.
        let parent = Context::new().with_remote_span_context(of(TraceFlags::default()));
        assert_eq!(decided(Some(&parent), &link(TraceFlags::SAMPLED)), SamplingDecision::Drop);
        let parent = Context::new().with_remote_span_context(of(TraceFlags::SAMPLED));
        assert_eq!(decided(Some(&parent), &[]), SamplingDecision::RecordAndSample);
    }
}
