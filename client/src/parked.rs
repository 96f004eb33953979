//! Work that is begun on the thread that read its request and ends there if it never waits. If it does, it is taken up
//! where the event it waits for happens: no thread is woken only to see that there is nothing to do yet.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::runtime::Handle;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

enum State {
    /// The first poll is under way.
    Polling,
    /// It was woken meanwhile.
    Woken,
    /// It waits.
    Waiting(Work),
    /// It ended, or the runtime has it.
    Gone,
}

struct Parked {
    runtime: Handle,
    /// order: nothing is taken while it is held.
    state: Mutex<State>,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        let work = {
            let mut state = self.state.lock();
            match std::mem::replace(&mut *state, State::Gone) {
                State::Polling | State::Woken => {
                    *state = State::Woken;
                    return;
                }
                State::Gone => return,
                State::Waiting(work) => work,
            }
        };
        // From a thread of the runtime this is its own next task.
        self.runtime.spawn(work);
    }
}

/// Polls `work` once here; what is left of it runs on the runtime as soon as something wakes it.
pub(crate) fn begin(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
    let mut work: Work = Box::pin(work);
    let parked = Arc::new(Parked { runtime: runtime.clone(), state: Mutex::new(State::Polling) });
    let waker = Waker::from(parked.clone());
    let _inside = runtime.enter();
    if let Poll::Ready(()) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
        // Wakers of it may live on.
        *parked.state.lock() = State::Gone;
        return;
    }
    {
        let mut state = parked.state.lock();
        if matches!(*state, State::Polling) {
            *state = State::Waiting(work);
            return;
        }
        *state = State::Gone;
    }
    runtime.spawn(work);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::begin;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_that_waits_ends_after_its_event_whenever_that_comes() {
        let runtime = tokio::runtime::Handle::current();
        for round in 0..2_000 {
            let (event, waits) = tokio::sync::oneshot::channel();
            let (ended, end) = mpsc::channel();
            // Sent before, about during, and after the first poll.
            if round % 3 == 0 {
                event.send(round).unwrap();
            } else if round % 3 == 1 {
                runtime.spawn(async move { event.send(round).unwrap() });
            } else {
                runtime.spawn(async move {
                    tokio::task::yield_now().await;
                    event.send(round).unwrap();
                });
            }
            begin(&runtime, async move { ended.send(waits.await.unwrap()).unwrap() });
            let got = tokio::task::block_in_place(|| end.recv_timeout(LONG));
            assert_eq!(got, Ok(round));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_that_never_waits_ends_on_this_thread() {
        let runtime = tokio::runtime::Handle::current();
        let here = std::thread::current().id();
        let (ended, end) = mpsc::channel();
        begin(&runtime, async move { ended.send(std::thread::current().id()).unwrap() });
        assert_eq!(end.try_recv(), Ok(here));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_that_waits_twice_and_wakes_itself_ends() {
        let runtime = tokio::runtime::Handle::current();
        let (ended, end) = mpsc::channel();
        begin(&runtime, async move {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            ended.send(()).unwrap();
        });
        assert_eq!(tokio::task::block_in_place(|| end.recv_timeout(LONG)), Ok(()));
    }
}
