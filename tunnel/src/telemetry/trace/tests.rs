use super::*;

fn settings(sampling: u32) -> Arc<Tracing> {
    let literal = Tag { name: "team".into(), value: TagValue::Literal("shop".into()) };
    let header = |name: &str, default: &str| Tag {
        name: format!("of.{name}").into(),
        value: TagValue::Header(name.into(), default.into()),
    };
    Arc::new(Tracing {
        provider: Some(Arc::default()),
        sampling,
        tags: vec![literal, header("x-user", ""), header("x-region", "nowhere"), header("x-none", "")],
        istio_tags: true,
        propagates: true,
        max_tag_length: 8,
    })
}

fn request(settings: &Arc<Tracing>, headers: &mut HeaderMap) -> Box<Trace> {
    Trace::of_request(settings, headers, &mut Rng::seeded(1))
}

#[test]
fn the_callers_decision_holds_and_else_the_percentage() {
    let mut rng = Rng::from_entropy();
    let mut sampled = |sampling, parent: Option<&str>| {
        let settings = settings(sampling);
        let mut headers = HeaderMap::new();
        if let Some(parent) = parent {
            headers.insert("traceparent", parent.parse().unwrap());
        }
        (0..2000).filter(|_| Trace::of_request(&settings, &mut headers.clone(), &mut rng).is_sampled()).count()
    };
    let parent = |flags: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    assert_eq!(sampled(0, None), 0);
    assert_eq!(sampled(10_000, None), 2000);
    // Six standard deviations of a binomial distribution.
    assert!((866..1134).contains(&sampled(5_000, None)));
    assert_eq!(sampled(0, Some(&parent("01"))), 2000);
    assert_eq!(sampled(10_000, Some(&parent("00"))), 0);
}

#[test]
fn a_request_carries_our_span_on() {
    let settings = settings(10_000);
    let mut headers = HeaderMap::new();
    let first = request(&settings, &mut headers);
    assert_eq!((first.parent, first.is_sampled()), (0, true));
    assert_eq!(headers["traceparent"], first.context.to_string());
    let second = Trace::of_request(&settings, &mut headers, &mut Rng::seeded(2));
    assert_eq!((second.parent, second.context.trace), (first.context.span, first.context.trace));
    assert_ne!(second.context.span, first.context.span);
}

#[test]
fn attributes_are_those_that_users_ask_for() {
    let settings = settings(10_000);
    let mut headers = HeaderMap::new();
    headers.insert("x-user", "jason the elder".parse().unwrap());
    headers.insert("user-agent", "curl/8".parse().unwrap());
    let trace = request(&settings, &mut headers);
    let told: Vec<_> = trace.attributes.iter().map(|(name, value)| (&**name, &**value)).collect();
    let wanted =
        [("user_agent.original", "curl/8"), ("team", "shop"), ("of.x-user", "jason th"), ("of.x-region", "nowhere")];
    assert_eq!(told, wanted);
}

/// Where no provider gets spans, traces are followed all the same.
#[test]
fn without_a_provider_contexts_are_passed_on() {
    let settings = Arc::new(Tracing { provider: None, ..(*settings(10_000)).clone() });
    let mut headers = HeaderMap::new();
    let trace = request(&settings, &mut headers);
    assert!(!trace.is_sampled());
    assert!(headers["traceparent"].to_str().unwrap().ends_with("-01"));
}
