//! What a model's server is sent: the body in the shape of its API, with the pictures as pieces of
//! their own, and the headers.

use serde_json::{Map, Value, json};

use super::chat;
use super::learned::FactKind;
use super::settings::{Api, ProviderSettings};
use super::{Image, Message, Role};
use crate::secret::Secret;

pub(super) const ANTHROPIC_VERSION: &str = "2023-06-01";

/// What of a request depends on what a server takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// What is known of the server.
    pub(super) facts: Vec<FactKind>,
    /// The pictures of this question are refused, which says nothing about others.
    pub(super) blind: bool,
}

impl Shape {
    pub(super) fn has(&self, fact: FactKind) -> bool {
        self.facts.contains(&fact)
    }

    /// Pictures are sent; else it is said that there were some.
    pub(super) fn shows_images(&self) -> bool {
        !self.blind && !self.has(FactKind::NoImages)
    }

    /// The largest `max_tokens` that the server takes.
    fn most_tokens(&self) -> Option<u32> {
        let mut facts = self.facts.iter().rev();
        facts.find_map(|fact| match fact {
            FactKind::MaxTokens(most) => Some(*most),
            _ => None,
        })
    }
}

/// A body as pieces of JSON: pictures are not copied into it.
pub(super) struct Body {
    text: String,
    /// What a picture's place begins with in `text`; its index and a quotation mark follow.
    place: String,
}

impl Body {
    /// `said`: the beginning of the answer, from which the model goes on; empty: there is none.
    pub(super) fn new(
        api: Api,
        settings: &ProviderSettings,
        model: &str,
        conversation: &[Message],
        images: &[Image],
        said: &str,
        shape: &Shape,
    ) -> Body {
        let parameters = Value::Object(settings.parameters.clone()).to_string();
        let place = free_place(conversation, &[said, model, &parameters]);
        let (system, turns) = chat::turns(conversation, !shape.has(FactKind::NoSystem));
        let mut messages: Vec<Value> = Vec::new();
        let mut body = settings.parameters.clone();
        match (api, system) {
            (Api::OpenAi, Some(system)) => {
                messages.push(json!({"role": "system", "content": system}));
            }
            (Api::Anthropic, Some(system)) => {
                body.insert("system".into(), system.into());
            }
            (_, None) => {}
        }
        for turn in &turns {
            messages.push(message(api, turn, images, &place, shape.shows_images()));
        }
        if !said.is_empty() {
            // A last turn of the assistant's must not end in a space.
            messages.push(json!({"role": "assistant", "content": said.trim_end()}));
        }
        body.insert("messages".into(), messages.into());
        if !model.is_empty() {
            body.insert("model".into(), model.into());
        }
        if !shape.has(FactKind::NoStream) {
            body.insert("stream".into(), true.into());
        }
        if api == Api::Anthropic {
            body.entry("max_tokens")
                .or_insert(settings.max_tokens.into());
        }
        if let Some(temperature) = settings.temperature {
            body.entry("temperature").or_insert(temperature.into());
        }
        if shape.has(FactKind::NoTemperature) {
            body.remove("temperature");
        }
        lower(&mut body, shape.most_tokens());
        let text = Value::Object(body).to_string();
        Body { text, place }
    }

    /// The pieces, one after the other.
    pub(super) fn pieces<'a>(&'a self, images: &[Image<'a>]) -> Vec<&'a [u8]> {
        let mut parts = self.text.split(self.place.as_str());
        let mut pieces = vec![parts.next().unwrap_or_default().as_bytes()];
        for part in parts {
            let (index, rest) = part.split_once(':').unwrap_or(("", part));
            let image = index
                .parse()
                .ok()
                .and_then(|index: usize| images.get(index));
            pieces.push(image.map_or("", |image| image.base64).as_bytes());
            pieces.push(rest.as_bytes());
        }
        pieces
    }
}

/// The limits of the answer's length that a body may have.
pub(super) const LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// The limit that a request to this provider has, if any.
pub(super) fn limit(api: Api, settings: &ProviderSettings, shape: &Shape) -> Option<u64> {
    let set = LIMITS
        .iter()
        .find_map(|name| settings.parameters.get(*name)?.as_u64());
    let own = (api == Api::Anthropic).then_some(u64::from(settings.max_tokens));
    let limit = set.or(own)?;
    Some(
        shape
            .most_tokens()
            .map_or(limit, |most| limit.min(u64::from(most))),
    )
}

fn lower(body: &mut Map<String, Value>, most: Option<u32>) {
    for name in LIMITS {
        if let (Some(most), Some(limit)) = (most, body.get_mut(name))
            && limit.as_u64().is_some_and(|limit| limit > u64::from(most))
        {
            *limit = most.into();
        }
    }
}

/// A text that stands nowhere in the conversation and in what else a body has.
fn free_place(conversation: &[Message], others: &[&str]) -> String {
    let texts = conversation.iter().map(|message| message.content.as_str());
    let texts: Vec<&str> = texts.chain(others.iter().copied()).collect();
    let mut number = 0;
    loop {
        let place = format!("picture-{number}-");
        if !texts.iter().any(|text| text.contains(&place)) {
            return place;
        }
        number += 1;
    }
}

fn message(api: Api, turn: &Message, images: &[Image], place: &str, shown: bool) -> Value {
    let known: Vec<usize> = turn
        .images
        .iter()
        .copied()
        .filter(|index| *index < images.len())
        .collect();
    if known.is_empty() || !shown {
        let content = match known.len() {
            0 => turn.content.clone(),
            count => without_images(&turn.content, count),
        };
        return json!({"role": turn.role, "content": content});
    }
    let mut parts = Vec::new();
    if !turn.content.trim().is_empty() {
        parts.push(json!({"type": "text", "text": turn.content}));
    }
    for index in known {
        let (media_type, data) = (images[index].media_type, format!("{place}{index}:"));
        parts.push(match api {
            Api::OpenAi => {
                let url = format!("data:{media_type};base64,{data}");
                json!({"type": "image_url", "image_url": {"url": url}})
            }
            Api::Anthropic => {
                let source = json!({"type": "base64", "media_type": media_type, "data": data});
                json!({"type": "image", "source": source})
            }
        });
    }
    json!({"role": turn.role, "content": parts})
}

/// A turn's text when its pictures are not sent with it.
pub(super) fn without_images(content: &str, count: usize) -> String {
    let note = match count {
        1 => "(A picture that belongs here could not be shown to you.)".to_owned(),
        count => format!("({count} pictures that belong here could not be shown to you.)"),
    };
    if content.trim().is_empty() {
        note
    } else {
        format!("{content}\n\n{note}")
    }
}

/// Whether a conversation has pictures.
pub(super) fn has_images(conversation: &[Message]) -> bool {
    conversation
        .iter()
        .any(|message| message.role == Role::User && !message.images.is_empty())
}

/// The headers of every request to a provider's server: names and values.
pub(super) fn headers(
    api: Api,
    settings: &ProviderSettings,
    bearer: bool,
) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in &settings.headers {
        headers.push((name.clone(), value.reveal().to_owned()));
    }
    let mut add = |name: &str, value: String| {
        if !headers
            .iter()
            .any(|(own, _)| own.eq_ignore_ascii_case(name))
        {
            headers.push((name.to_owned(), value));
        }
    };
    if api == Api::Anthropic {
        add("anthropic-version", ANTHROPIC_VERSION.to_owned());
    }
    if let Some(key) = settings.api_key.as_ref().map(Secret::reveal) {
        if api == Api::Anthropic && !bearer {
            add("x-api-key", key.to_owned())
        } else {
            add("Authorization", format!("Bearer {key}"))
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(facts: &[FactKind]) -> Shape {
        Shape {
            facts: facts.to_vec(),
            ..Shape::default()
        }
    }

    fn json_of(body: &Body, images: &[Image]) -> Value {
        serde_json::from_slice(&body.pieces(images).concat()).unwrap()
    }

    #[test]
    fn pictures_stand_in_the_body_without_being_copied_into_it() {
        let images = [
            Image {
                media_type: "image/png",
                base64: "AAAA",
            },
            Image {
                media_type: "image/jpeg",
                base64: "BBBB",
            },
        ];
        let mut turn = Message::new(Role::User, "What is \"picture-0-1:\"?");
        turn.images = vec![1, 0, 7];
        let settings = ProviderSettings::default();
        let conversation = [Message::new(Role::System, "S"), turn];
        let (all, blind) = (with(&[]), with(&[FactKind::NoImages]));
        let body = |api, shape| Body::new(api, &settings, "m", &conversation, &images, "", shape);

        let open = body(Api::OpenAi, &all);
        let pieces = open.pieces(&images);
        assert!(
            pieces
                .iter()
                .any(|piece| std::ptr::eq(*piece, images[0].base64.as_bytes()))
        );
        let text = json!({"type": "text", "text": "What is \"picture-0-1:\"?"});
        let url = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
        assert_eq!(
            json_of(&open, &images)["messages"][1]["content"],
            json!([
                text,
                url("data:image/jpeg;base64,BBBB"),
                url("data:image/png;base64,AAAA")
            ])
        );
        let source = |media_type: &str, data: &str| json!({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}});
        assert_eq!(
            json_of(&body(Api::Anthropic, &all), &images)["messages"][0]["content"],
            json!([
                text,
                source("image/jpeg", "BBBB"),
                source("image/png", "AAAA")
            ])
        );
        assert_eq!(
            json_of(&body(Api::OpenAi, &blind), &images)["messages"][1]["content"],
            "What is \"picture-0-1:\"?\n\n(2 pictures that belong here could not be shown to you.)"
        );
    }

    #[test]
    fn what_looks_like_a_pictures_place_stays_as_it_is() {
        let images = [Image {
            media_type: "image/png",
            base64: "AAAA",
        }];
        let mut turn = Message::new(Role::User, "picture-0-0:");
        turn.images = vec![0];
        let mut settings = ProviderSettings::default();
        let parameter = json!({"a": "picture-1-0:"});
        settings.parameters.insert("x".into(), parameter.clone());
        let (model, said) = ("picture-2-0:", "picture-3-0:");
        let body = Body::new(
            Api::OpenAi,
            &settings,
            model,
            &[turn],
            &images,
            said,
            &with(&[]),
        );
        let json = json_of(&body, &images);
        assert_eq!((&json["x"], &json["model"]), (&parameter, &model.into()));
        assert_eq!(json["messages"][1]["content"], said);
        assert_eq!(json["messages"][0]["content"][0]["text"], "picture-0-0:");
    }

    #[test]
    fn parameters_are_merged_as_they_are_and_win_over_the_general_settings() {
        let mut settings = ProviderSettings {
            temperature: Some(0.5),
            ..ProviderSettings::default()
        };
        for (name, value) in [
            ("max_tokens", json!(9000)),
            ("temperature", json!(1)),
            ("top_k", json!([1, {"a": null}])),
        ] {
            settings.parameters.insert(name.into(), value);
        }
        let conversation = [Message::new(Role::User, "hi")];
        let body = |shape: &Shape| {
            json_of(
                &Body::new(
                    Api::Anthropic,
                    &settings,
                    "m",
                    &conversation,
                    &[],
                    "",
                    shape,
                ),
                &[],
            )
        };
        let whole = body(&with(&[]));
        assert_eq!(whole["max_tokens"], 9000);
        assert_eq!(whole["temperature"], 1);
        assert_eq!(whole["top_k"], json!([1, {"a": null}]));
        let less = body(&with(&[
            FactKind::NoTemperature,
            FactKind::MaxTokens(8000),
            FactKind::MaxTokens(4096),
            FactKind::NoStream,
        ]));
        assert_eq!(less["max_tokens"], 4096);
        assert_eq!((less.get("temperature"), less.get("stream")), (None, None));
    }

    #[test]
    fn a_header_of_the_configuration_takes_the_place_of_an_own_one() {
        let settings = ProviderSettings {
            api_key: Some(Secret::new("key")),
            headers: vec![
                ("authorization".into(), Secret::new("Basic x")),
                ("X-A".into(), Secret::new("b")),
            ],
            ..ProviderSettings::default()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            headers(Api::OpenAi, &settings, false),
            [pair("authorization", "Basic x"), pair("X-A", "b")]
        );
        assert_eq!(
            headers(Api::Anthropic, &settings, false)[2..],
            [
                pair("anthropic-version", ANTHROPIC_VERSION),
                pair("x-api-key", "key")
            ]
        );
    }
}
