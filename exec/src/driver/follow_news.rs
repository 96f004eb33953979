//! Follows the change stream of the spool: what happens is looked at when it happens.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Driver;
use crate::spool::news::Hint;
use crate::spool::{Hands, SPOOL};

/// News under way to the driver; the follower waits when it is full.
pub(super) const QUEUE: usize = 16;
/// Between two attempts to watch while that fails.
const RETRY: Duration = Duration::from_secs(1);

/// What the follower tells.
#[derive(Debug)]
pub(super) enum Told {
    /// The stream begins (or begins anew): everything from here on is told; look at everything once.
    Begins,
    /// These parts changed.
    Changed(Hint),
    /// The stream is broken: look from time to time.
    Ends,
}

/// Runs until the driver is gone. On a file system that cannot tell, ends at once.
pub(super) async fn run(hands: Arc<Hands>, tell: mpsc::Sender<Told>) {
    loop {
        match hands.store.watch(SPOOL).await {
            Ok(None) => return,
            Ok(Some(mut watch)) => {
                if tell.send(Told::Begins).await.is_err() {
                    return;
                }
                let error = loop {
                    match watch.next().await {
                        Ok(news) => {
                            let hint = Hint::of(&news);
                            if hint.any() && tell.send(Told::Changed(hint)).await.is_err() {
                                return;
                            }
                        }
                        Err(error) => break error,
                    }
                };
                tracing::warn!(%error, "the change stream of the spool broke; looking from time to time");
                if tell.send(Told::Ends).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "the spool cannot be watched yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Driver {
    pub(super) fn on_news(&mut self, told: Told) {
        let hint = match told {
            Told::Begins => {
                self.watching = true;
                Hint::ALL
            }
            Told::Changed(hint) => hint,
            Told::Ends => {
                self.watching = false;
                Hint::ALL
            }
        };
        if hint.new {
            self.clocks.scan = Duration::ZERO;
            self.look_again = self.scanning;
        }
        if hint.live {
            self.clocks.presence = Duration::ZERO;
        }
        if hint.control {
            self.clocks.wishes = Duration::ZERO;
        }
        self.look_where_due();
    }
}
