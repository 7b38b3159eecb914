//! The events of a streamed response, numbered without gaps.

use super::Pending;
use crate::answer::{Delta, End, Update};
use crate::calls::{Call, CallDelta};
use crate::error::ApiError;
use crate::flight::Counts;
use crate::generate::Text;
use crate::sse::{Events, Writer};
use crate::wire::responses::{call_item, message_item, reasoning_item, status, text_part};
use serde_json::{Value, json};

/// Writes the events of one response.
pub(super) struct EventWriter {
    pending: Pending,
    text: Text,
    counts: Counts,
    n_events: usize,
    /// The item that is being written.
    open: Option<Open>,
    /// The number of items before it.
    n_items: usize,
}

/// A kind of item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Reasoning,
    Message,
    /// The call of this index.
    Call(usize),
}

impl EventWriter {
    pub(super) fn new(pending: Pending) -> EventWriter {
        let (text, counts) = (Text::default(), Counts::default());
        EventWriter { pending, text, counts, n_events: 0, open: None, n_items: 0 }
    }

    /// Sends an event with these fields beside its type and number.
    fn send(&mut self, kind: &str, fields: Value, events: &mut Events) {
        let mut event = json!({ "type": kind, "sequence_number": self.n_events });
        if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
            event.extend(fields);
        }
        self.n_events += 1;
        events.named(kind, &event);
    }

    fn id_of(&self, item: Open) -> String {
        match item {
            Open::Reasoning => self.pending.ids.reasoning.clone(),
            Open::Message => self.pending.ids.message.clone(),
            Open::Call(index) => {
                self.text.calls.get(index).map_or(String::new(), |call| call.id.replacen("call_", "fc_", 1))
            }
        }
    }

    /// Begins an item, unless it is the one that is being written.
    fn open(&mut self, item: Open, events: &mut Events) {
        if self.open == Some(item) {
            return;
        }
        self.close("completed", events);
        self.open = Some(item);
        let id = self.id_of(item);
        let begun = match item {
            Open::Reasoning => reasoning_item(&id, "", "in_progress"),
            Open::Message => message_item(&id, None, "in_progress"),
            Open::Call(index) => {
                let call = self.text.calls.get(index).cloned().unwrap_or_default();
                call_item(&Call { arguments: String::new(), ..call }, "in_progress")
            }
        };
        let index = self.n_items;
        self.send("response.output_item.added", json!({ "output_index": index, "item": begun }), events);
        if item == Open::Message {
            let fields = json!({ "item_id": id, "output_index": index, "content_index": 0, "part": text_part("") });
            self.send("response.content_part.added", fields, events);
        }
    }

    /// Ends the item that is being written.
    fn close(&mut self, status: &str, events: &mut Events) {
        let Some(item) = self.open.take() else { return };
        let (id, index) = (self.id_of(item), self.n_items);
        let text = self.text.content.clone();
        let done = match item {
            Open::Reasoning => {
                let text = self.text.reasoning.clone();
                let fields = json!({ "item_id": id, "output_index": index, "content_index": 0, "text": text });
                self.send("response.reasoning_text.done", fields, events);
                reasoning_item(&id, &text, status)
            }
            Open::Message => {
                let at =
                    json!({ "item_id": id, "output_index": index, "content_index": 0, "text": text, "logprobs": [] });
                self.send("response.output_text.done", at, events);
                let part =
                    json!({ "item_id": id, "output_index": index, "content_index": 0, "part": text_part(&text) });
                self.send("response.content_part.done", part, events);
                message_item(&id, Some(&text), status)
            }
            Open::Call(call) => {
                let call = self.text.calls.get(call).cloned().unwrap_or_default();
                let fields =
                    json!({ "item_id": id, "output_index": index, "name": call.name, "arguments": call.arguments });
                self.send("response.function_call_arguments.done", fields, events);
                call_item(&call, status)
            }
        };
        self.send("response.output_item.done", json!({ "output_index": index, "item": done }), events);
        self.n_items += 1;
    }

    fn piece(&mut self, delta: Delta, events: &mut Events) {
        let Delta { reasoning, content, calls, tokens } = delta;
        if !reasoning.is_empty() {
            self.open(Open::Reasoning, events);
            let fields = json!({
                "item_id": self.id_of(Open::Reasoning), "output_index": self.n_items, "content_index": 0, "delta": reasoning,
            });
            self.send("response.reasoning_text.delta", fields, events);
            self.text.reasoning += &reasoning;
        }
        if !content.is_empty() {
            self.open(Open::Message, events);
            let fields = json!({
                "item_id": self.id_of(Open::Message), "output_index": self.n_items, "content_index": 0, "delta": content,
                "logprobs": [],
            });
            self.send("response.output_text.delta", fields, events);
            self.text.content += &content;
        }
        self.text.tokens.extend(tokens);
        calls.into_iter().for_each(|call| self.call(call, events));
    }

    fn call(&mut self, delta: CallDelta, events: &mut Events) {
        let item = Open::Call(delta.index);
        let more = delta.arguments.clone();
        crate::calls::join(&mut self.text.calls, vec![delta]);
        self.open(item, events);
        let fields = json!({ "item_id": self.id_of(item), "output_index": self.n_items, "delta": more });
        self.send("response.function_call_arguments.delta", fields, events);
    }
}

impl Writer for EventWriter {
    fn begin(&mut self, events: &mut Events) {
        let response = self.pending.begun();
        self.send("response.created", json!({ "response": response }), events);
        self.send("response.in_progress", json!({ "response": response }), events);
    }

    fn update(&mut self, _: usize, update: Update, events: &mut Events) {
        match update {
            Update::Delta { delta, .. } => self.piece(delta, events),
            Update::Ended { delta, end, n_reasoning, .. } => {
                self.counts.n_reasoning += n_reasoning;
                self.piece(delta, events);
                self.text.end = Some(end);
                if self.text.content.is_empty() && self.text.calls.is_empty() {
                    // An answer without a word is a message all the same.
                    self.open(Open::Message, events);
                }
                self.close(status(Some(end)), events);
            }
            Update::Done(usage) => self.counts.add(usage),
            Update::Scored(_) | Update::Embedding(_) | Update::State(_) | Update::Failed(_) => {}
        }
    }

    fn end(&mut self, events: &mut Events) {
        let response = self.pending.complete(&self.text, self.counts);
        let kind = match self.text.end {
            Some(End::Length) => "response.incomplete",
            Some(End::Stop | End::Calls) | None => "response.completed",
        };
        self.send(kind, json!({ "response": response }), events);
    }

    fn fail(&mut self, error: &ApiError, events: &mut Events) {
        let mut response = self.pending.begun();
        response["status"] = "failed".into();
        response["error"] = json!({ "code": error.code().unwrap_or("server_error"), "message": error.message() });
        self.send("response.failed", json!({ "response": response }), events);
    }
}
