//! Notices clients that have begun something and do not get on with it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::ConnectionTimeouts;

/// A client that takes so many bytes within the timeouts for writing is slow, but not stalled.
const FAIR_SHARE: usize = 256 * 1024;

/// What a connection waits for its client to do. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct SlowClientDetector(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Since when the headers of a request are incomplete.
    headers_since: Option<Instant>,
    /// Since when the client takes hardly anything of what it is sent, and how much it took since.
    write_since: Option<Instant>,
    taken: usize,
    is_serving: bool,
}

impl SlowClientDetector {
    /// A new connection owes the headers of its first request.
    pub(super) fn begin() -> Self {
        Self(Arc::new(Mutex::new(State {
            headers_since: Some(Instant::now()),
            write_since: None,
            taken: 0,
            is_serving: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The headers of a request are complete.
    pub(super) fn request_came(&self) {
        let mut state = self.state();
        state.headers_since = None;
        state.is_serving = true;
    }

    /// The request is answered; what comes now is of the next one.
    pub(super) fn request_done(&self) {
        self.state().is_serving = false;
    }

    fn bytes_came(&self) {
        let mut state = self.state();
        if !state.is_serving && state.headers_since.is_none() {
            state.headers_since = Some(Instant::now());
        }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        let mut state = self.state();
        match written {
            Poll::Pending => {
                if state.write_since.is_none() {
                    state.write_since = Some(Instant::now());
                    state.taken = 0;
                }
            }
            Poll::Ready(Ok(bytes)) => {
                state.taken += bytes;
                if state.taken >= FAIR_SHARE {
                    state.write_since = None;
                }
            }
            Poll::Ready(Err(_)) => {}
        }
    }

    fn all_written(&self) {
        self.state().write_since = None;
    }

    /// Ends when the client has kept the broker waiting for longer than that.
    pub(super) async fn lasts_longer_than(&self, timeouts: ConnectionTimeouts) {
        let mut look = tokio::time::interval(timeouts.headers.min(timeouts.write) / 4);
        loop {
            look.tick().await;
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

/// A stream that tells [`SlowClientDetector`] what its client does.
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
            self.detector.bytes_came();
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
        self.detector.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.detector.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Comes when nothing is left to write.
        self.detector.all_written();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
