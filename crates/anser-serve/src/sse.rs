//! Server-sent events: the updates of a flight, written as they come.

use crate::answer::Update;
use crate::error::ApiError;
use crate::flight::Flight;
use axum::body::{Body, Bytes};
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use futures_core::Stream;
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Events that are to be sent.
#[derive(Debug, Default)]
pub(crate) struct Events(String);

impl Events {
    /// An event with JSON.
    pub(crate) fn data(&mut self, data: &impl Serialize) {
        match serde_json::to_string(data) {
            Ok(json) => self.0 += &format!("data: {json}\n\n"),
            Err(error) => log::error!("an event cannot be written as JSON: {error}"),
        }
    }

    /// An event with a name of its own.
    pub(crate) fn named(&mut self, name: &str, data: &impl Serialize) {
        self.0 += &format!("event: {name}\n");
        self.data(data);
    }

    /// The event that ends the streams of chats and completions.
    pub(crate) fn done(&mut self) {
        self.0 += "data: [DONE]\n\n";
    }
}

/// Writes the events of one kind of answer.
pub(crate) trait Writer: Send + Unpin + 'static {
    /// The events before anything was computed.
    fn begin(&mut self, events: &mut Events);
    /// The events of an update of the flight's request `index`.
    fn update(&mut self, index: usize, update: Update, events: &mut Events);
    /// The events after the last update.
    fn end(&mut self, events: &mut Events);
    /// The events of an error, after which nothing follows.
    fn fail(&mut self, error: &ApiError, events: &mut Events) {
        events.data(&error.body());
    }
}

/// The answer that streams what `writer` makes of the updates of `flight`.
pub(crate) fn respond(flight: Flight, writer: impl Writer, ping_time: Duration) -> Response<Body> {
    let mut events = Events::default();
    let mut writer = writer;
    writer.begin(&mut events);
    let ping = Box::pin(tokio::time::sleep(ping_time));
    let first = Some(events).filter(|events| !events.0.is_empty());
    let stream = EventStream { flight: Some(flight), writer, first, ping, ping_time };
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

struct EventStream<W> {
    /// `None` after the last event.
    flight: Option<Flight>,
    writer: W,
    first: Option<Events>,
    ping: Pin<Box<Sleep>>,
    ping_time: Duration,
}

impl<W: Writer> Stream for EventStream<W> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(Events(first)) = this.first.take() {
            return Poll::Ready(Some(Ok(first.into())));
        }
        let Some(flight) = &mut this.flight else { return Poll::Ready(None) };
        let mut events = Events::default();
        // All updates that are there go out in one write.
        loop {
            match flight.poll_next(context) {
                Poll::Ready(Some((index, Ok(update)))) => this.writer.update(index, update, &mut events),
                Poll::Ready(Some((_, Err(error)))) => {
                    this.writer.fail(&error, &mut events);
                    this.flight = None;
                    return ready(events);
                }
                Poll::Ready(None) => {
                    this.writer.end(&mut events);
                    this.flight = None;
                    return ready(events);
                }
                Poll::Pending => break,
            }
        }
        if events.0.is_empty() {
            match this.ping.as_mut().poll(context) {
                Poll::Ready(()) => events.0 += ":\n\n",
                Poll::Pending => return Poll::Pending,
            }
        }
        this.ping.as_mut().reset(Instant::now() + this.ping_time);
        ready(events)
    }
}

fn ready(Events(text): Events) -> Poll<Option<Result<Bytes, Infallible>>> {
    Poll::Ready(Some(Ok(text.into())))
}
