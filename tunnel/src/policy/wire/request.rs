//! What of a rule is asked of requests.

use http::HeaderName;

use super::super::condition::{self, Strings, Test};
use super::super::request::Condition;
use super::{decode_match, ranges, texts, Match, Reading};
use crate::config::proto::{Action, RequestAttribute, RequestMatch, RequestRule, RequestTest, StringMatch};

pub fn decode(message: &RequestRule, action: Action) -> Result<Reading, String> {
    let one = |message: &RequestMatch| -> Result<Match, String> {
        let connection = message.connection.as_ref().map(decode_match).transpose()?;
        let mut tests = connection.map_or_else(Vec::new, |Match(tests)| tests.into_vec());
        for test in &message.tests {
            tests.push(decode_test(test, action)?);
        }
        Ok(Match(tests.into()))
    };
    let clauses = message.clauses.iter().map(|clause| clause.matches.iter().map(one).collect());
    Ok(Reading::new(clauses.collect::<Result<_, String>>()?, &message.unjudged))
}

/// What a request may be taken for as well must not help it: any form is enough to be denied, and to be excepted from what
/// is allowed; none must be missing to be allowed, or to be excepted from what is denied.
fn decode_test(message: &RequestTest, action: Action) -> Result<Test, String> {
    let attribute = RequestAttribute::try_from(message.attribute);
    let attribute = attribute.map_err(|_| format!("request attribute {} is unknown", message.attribute))?;
    let condition = condition::Condition::Request(decode_condition(attribute, message)?);
    let any_form = (action != Action::Allow) != message.negated;
    Ok(Test { condition, negated: message.negated, any_form })
}

fn decode_condition(attribute: RequestAttribute, message: &RequestTest) -> Result<Condition, String> {
    let step = || message.path.first().ok_or("a request's attribute has no name");
    let (values, templates) = texts(&message.values)?;
    if attribute != RequestAttribute::Path && !templates.is_empty() {
        return Err("a template is of a request's path".to_owned());
    }
    Ok(match attribute {
        RequestAttribute::Unspecified => return Err("a request's attribute is not named".to_owned()),
        RequestAttribute::Host => Condition::Host(lower(&message.values)?),
        RequestAttribute::Method => Condition::Method(values),
        RequestAttribute::Path => Condition::Path(values, templates.into()),
        RequestAttribute::Header => match step()?.as_str() {
            // They are no fields any more when a request is judged.
            "host" | ":authority" => Condition::Host(lower(&message.values)?),
            ":method" => Condition::Method(values),
            name => {
                Condition::Header(HeaderName::try_from(name).map_err(|_| format!("{name:?} names no header"))?, values)
            }
        },
        RequestAttribute::RemoteAddress => Condition::Remote(ranges(&message.ranges)?),
        RequestAttribute::RequestPrincipal => Condition::Principal(values),
        RequestAttribute::Audience => Condition::Audience(values),
        RequestAttribute::Presenter => Condition::Presenter(values),
        RequestAttribute::Claim => {
            step()?;
            Condition::Claim(message.path.iter().map(|step| step.as_str().into()).collect(), values)
        }
    })
}

/// Hosts are compared in lower case.
fn lower(values: &[StringMatch]) -> Result<Strings, String> {
    use crate::config::proto::MatchType::{Exact, Prefix, Suffix};
    let mut values = values.to_vec();
    for value in &mut values {
        if let Some(Exact(text) | Prefix(text) | Suffix(text)) = &mut value.match_type {
            text.make_ascii_lowercase();
        }
    }
    Ok(texts(&values)?.0)
}
