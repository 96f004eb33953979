//! What the RMS does about erasure coding: for `xtfs status` and `xtfs doctor`.

use proto::dir::{ServiceEntry, VolumeEntry};
use serde_json::{Value, json};

use super::service::is_up;
use crate::scrape;

/// Asks every RMS that is up.
pub(super) async fn gather(services: &[ServiceEntry], volumes: &[VolumeEntry]) -> Value {
    let running: Vec<&ServiceEntry> =
        services.iter().filter(|service| service.role == "rms" && is_up(service)).collect();
    let asked = running.iter().map(|service| scrape::get(&service.http, "/api/v1/status"));
    let pages = futures::future::join_all(asked).await;
    let told = pages.into_iter().flatten().filter_map(|page| serde_json::from_str(&page).ok());
    let told: Vec<Value> = told.filter_map(|page: Value| find(&page)).collect();
    let wanted = volumes.iter().any(|volume| volume.striping.coding.is_some());
    summary(&told, wanted)
}

/// The part of a status page about erasure coding, wherever the page has it.
fn find(page: &Value) -> Option<Value> {
    let map = page.as_object()?;
    map.get("ec").filter(|ec| ec.is_object()).cloned().or_else(|| map.values().find_map(find))
}

/// What several that do the same say together: what one has seen, all have.
fn summary(told: &[Value], wanted: bool) -> Value {
    if told.is_empty() {
        let trouble = wanted
            .then_some("no rms is running; files under the policy `ec` stay replicated (`xtfs start rms-0`)");
        return json!({ "trouble": trouble });
    }
    let most = |key: &str| told.iter().filter_map(|one| one[key].as_u64()).max().unwrap_or(0);
    let (encoded, waiting, busy) = (most("encoded"), most("waiting"), most("busy"));
    let trouble = told.iter().find_map(|one| one["trouble"].as_str());
    let text = (wanted || encoded + waiting + busy > 0)
        .then(|| format!("{encoded} files encoded, {waiting} wait, {busy} in use or changed not long ago"));
    json!({
        "encoded": encoded, "waiting": waiting, "busy": busy, "done": most("done"), "failed": most("failed"),
        "trouble": trouble, "text": text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_say_is_not_counted_twice_and_silence_is_a_trouble() {
        let one = json!({"encoded": 5, "waiting": 2, "busy": 0, "done": 1, "failed": 0, "trouble": null});
        let page = json!({"role": "rms", "detail": {"ec": one}});
        let told = [find(&page).unwrap(), one];
        let value = summary(&told, true);
        assert_eq!(value["text"], "5 files encoded, 2 wait, 0 in use or changed not long ago");
        assert_eq!(value["trouble"], Value::Null);
        assert!(summary(&[], true)["trouble"].as_str().unwrap().contains("no rms"));
        assert_eq!(summary(&[], false)["trouble"], Value::Null);
    }
}
