//! Servers, and a small client that sees everything that is sent.

use anser::{Device, Model};
use anser_engine::Limits;
use anser_serve::{Keys, Listener, Options, ServeError, ServedModel, Server, Stop};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// The keys of two tenants.
pub(crate) const ANN: &str = "key-of-ann";
pub(crate) const BEN: &str = "key-of-ben";

/// The model inside the library, on the CPU.
pub(crate) fn demo() -> Model {
    static DEMO: OnceLock<Model> = OnceLock::new();
    let options = anser::Options { device: Device::Cpu, ..anser::Options::default() };
    DEMO.get_or_init(|| Model::embedded(&options).unwrap()).clone()
}

/// The same model computed in floats, so that a text alone has the numbers that it has beside others.
pub(crate) fn exact_demo() -> Model {
    Model::embedded(&anser::Options { device: Device::Cpu, exact: true, ..anser::Options::default() }).unwrap()
}

/// A server that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

/// Bounds that tests do not wait for, and small caches.
pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.cache.host_n_bytes = 64 << 20;
    limits
}

pub(crate) fn options() -> Options {
    Options { keys: Keys::from_lines(&format!("{ANN}\n{BEN}")).unwrap(), ..Options::default() }
}

impl Running {
    pub(crate) fn start() -> Running {
        Running::with(options(), limits(), Duration::from_secs(10))
    }

    pub(crate) fn with(options: Options, limits: Limits, drain_time: Duration) -> Running {
        Running::of(demo(), options, limits, drain_time)
    }

    pub(crate) fn of(model: Model, options: Options, limits: Limits, drain_time: Duration) -> Running {
        Running::of_several(vec![(model, &["demo", "gpt-test"])], options, &limits, drain_time)
    }

    /// A server of several models with their names.
    pub(crate) fn of_several(
        models: Vec<(Model, &[&str])>,
        options: Options,
        limits: &Limits,
        drain_time: Duration,
    ) -> Running {
        let served = models.into_iter().map(|(model, names)| ServedModel {
            states: vec![],
            is_adapted: false,
            reranker: None,
            model,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            created: SystemTime::now(),
            limits: limits.clone(),
        });
        Running::of_served(served.collect(), options, drain_time)
    }

    /// A server of models with all that belongs to them.
    pub(crate) fn of_served(served: Vec<ServedModel>, options: Options, drain_time: Duration) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(served, Listener::Tcp(listener), options).unwrap();
        let stop = server.stop_handle();
        let thread = Some(std::thread::spawn(move || server.run(drain_time)));
        Running { address, stop, thread }
    }

    /// Tells the server to end, and does not wait for it.
    pub(crate) fn stop(&self) {
        self.stop.stop();
    }

    /// What [`Server::run`] returned.
    pub(crate) fn join(mut self) -> Result<(), ServeError> {
        self.thread.take().unwrap().join().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[("authorization", &format!("Bearer {ANN}"))], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(ANN, path, body)
    }

    pub(crate) fn post_as(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.send(&json_request(key, path, body)).rest()
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += "host: localhost\r\n";
        }
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        self.send(&[head.as_bytes(), b"\r\n", body].concat()).rest()
    }

    /// Sends bytes on a connection of their own.
    pub(crate) fn send(&self, bytes: &[u8]) -> Connection {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // A server that refuses a request may hang up while the rest of it is being sent.
        let _ = stream.write_all(bytes);
        Connection { stream, read: vec![] }
    }

    /// The value of a metric, the sum over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let of = |line: &str| {
            let (sample, value) = line.rsplit_once(' ')?;
            let is_it = sample == name || sample.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
            value.parse::<f64>().ok().filter(|_| is_it)
        };
        text.lines().filter_map(of).sum()
    }

    /// Waits until a metric has a value.
    pub(crate) fn wait_for(&self, name: &str, value: f64) {
        let began = Instant::now();
        while self.metric(name) != value {
            assert!(began.elapsed() < Duration::from_secs(30), "{name} is {}", self.metric(name));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The bytes of a request with JSON.
pub(crate) fn json_request(key: &str, path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         authorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// A connection on which an answer arrives.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Reads until `part` has come.
    pub(crate) fn read_until(&mut self, part: &str) {
        let mut bytes = [0; 4096];
        while !String::from_utf8_lossy(&self.read).contains(part) {
            let n = self.stream.read(&mut bytes).unwrap();
            assert!(n > 0, "the connection ended without {part:?}: {}", String::from_utf8_lossy(&self.read));
            self.read.extend_from_slice(&bytes[..n]);
        }
    }

    /// Reads to the end.
    pub(crate) fn rest(mut self) -> Answer {
        // A reset after the answer is an end, too.
        let _ = self.stream.read_to_end(&mut self.read);
        Answer::read(&self.read)
    }
}

/// An answer as it was sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let headers: Vec<_> = lines.map(header).collect();
        let is_chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = &bytes[end + 4..];
        Answer { status, body: if is_chunked { joined(body) } else { body.to_vec() }, headers }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON of an answer that is no error.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The error object of an answer with this status.
    #[track_caller]
    pub(crate) fn error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        let error = self.json()["error"].clone();
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()) && error["type"].is_string(), "{error}");
        assert!(error.get("param").is_some() && error.get("code").is_some(), "{error}");
        error
    }

    /// The data of the events of a stream.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("text/event-stream"));
        let data = |event: &str| event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
        self.text().split("\n\n").filter_map(data).collect()
    }

    /// The chunks of a stream that ends as it should.
    #[track_caller]
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

/// The body of a chunked transfer; what is missing at its end is missing.
fn joined(mut body: &[u8]) -> Vec<u8> {
    let mut whole = vec![];
    while let Some(at) = body.windows(2).position(|two| two == b"\r\n") {
        let n = usize::from_str_radix(std::str::from_utf8(&body[..at]).unwrap().trim(), 16).unwrap();
        let end = (at + 2 + n).min(body.len());
        whole.extend_from_slice(&body[at + 2..end]);
        body = body.get(end + 2..).unwrap_or_default();
    }
    whole
}
