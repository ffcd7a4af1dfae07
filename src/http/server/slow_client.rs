//! Detects clients that send incomplete headers, or do not read their answer, for too long.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::ConnectionTimeouts;
use crate::shared::lock;

/// A client that reads this many bytes within the time-out for writing is slow, but not stalled.
const MIN_PROGRESS: usize = 256 * 1024;

/// Tracks how long one connection has waited for its client. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct SlowClientDetector(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Since when the headers of a request are incomplete.
    headers_since: Option<Instant>,
    /// Since when writes are blocked, with less than [`MIN_PROGRESS`] bytes written in between.
    write_since: Option<Instant>,
    /// Bytes written since `write_since`.
    written: usize,
    /// Whether a request is being answered; bytes received meanwhile belong to its body or to the next request.
    is_serving: bool,
}

impl SlowClientDetector {
    /// Creates the detector of a new connection, which waits for the headers of its first request.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            headers_since: Some(Instant::now()),
            write_since: None,
            written: 0,
            is_serving: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Records that the headers of a request are complete.
    pub(super) fn request_started(&self) {
        let mut state = self.state();
        state.headers_since = None;
        state.is_serving = true;
    }

    /// Records that the request is answered: bytes received from now on belong to the next one.
    pub(super) fn request_done(&self) {
        self.state().is_serving = false;
    }

    fn bytes_received(&self) {
        let mut state = self.state();
        if !state.is_serving && state.headers_since.is_none() {
            state.headers_since = Some(Instant::now());
        }
    }

    fn write_polled(&self, written: &Poll<io::Result<usize>>) {
        let mut state = self.state();
        match written {
            Poll::Pending => {
                if state.write_since.is_none() {
                    state.write_since = Some(Instant::now());
                    state.written = 0;
                }
            }
            Poll::Ready(Ok(bytes)) => {
                state.written += bytes;
                if state.written >= MIN_PROGRESS {
                    state.write_since = None;
                }
            }
            Poll::Ready(Err(_)) => {}
        }
    }

    fn all_written(&self) {
        self.state().write_since = None;
    }

    /// Returns when the client has exceeded one of the time-outs.
    pub(super) async fn exceeded(&self, timeouts: ConnectionTimeouts) {
        let mut check = tokio::time::interval(timeouts.headers.min(timeouts.write) / 4);
        loop {
            check.tick().await;
            let state = self.state();
            let is_over =
                |since: Option<Instant>, limit| since.is_some_and(|since| since.elapsed() >= limit);
            if is_over(state.headers_since, timeouts.headers)
                || is_over(state.write_since, timeouts.write)
            {
                return;
            }
        }
    }
}

/// A stream that reports reads and writes to a [`SlowClientDetector`].
#[derive(Debug)]
pub(super) struct MonitoredStream<T> {
    stream: T,
    detector: SlowClientDetector,
}

impl<T> MonitoredStream<T> {
    pub(super) const fn new(stream: T, detector: SlowClientDetector) -> Self {
        Self { stream, detector }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for MonitoredStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.detector.bytes_received();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for MonitoredStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.detector.write_polled(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.detector.write_polled(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when nothing is left to write.
        self.detector.all_written();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
