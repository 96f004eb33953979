//! The HTTP door of every service: a page for people, `/healthz`, `/metrics`, `/api/v1`. Reading needs only `curl`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::rpc::BoxFuture;

/// What a service tells about itself.
pub trait StatusSource: Send + Sync + 'static {
    /// Name for people (`mrc-0`).
    fn name(&self) -> String;
    /// Whether it can serve; the error says why not and what to do.
    fn health(&self) -> Result<(), String>;
    /// Everything worth knowing, as one JSON object (snake_case keys).
    fn status(&self) -> BoxFuture<'_, Value>;
    /// Prometheus text.
    fn metrics(&self) -> String;
}

/// Serves until `shutdown` becomes true.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn StatusSource>,
    mut shutdown: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/", get(page))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/openapi.json", get(openapi))
        .fallback(missing)
        .with_state(source);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            // A dropped sender means the owner is gone: stop as well.
            let _ = shutdown.wait_for(|stop| *stop).await;
        })
        .await
}

type Source = State<Arc<dyn StatusSource>>;

async fn healthz(State(source): Source) -> Response {
    match source.health() {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(source): Source) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], source.metrics()).into_response()
}

async fn status(State(source): Source) -> Response {
    axum::Json(source.status().await).into_response()
}

async fn missing() -> Response {
    let text = "no such page; try /, /healthz, /metrics, /api/v1/status, /api/v1/openapi.json\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn openapi(State(source): Source) -> Response {
    let text = |what: &str| json!({"get": {"summary": what, "responses": {"200": {"description": what}}}});
    axum::Json(json!({
        "openapi": "3.0.3",
        "info": {"title": format!("xtfs {}", source.name()), "version": env!("CARGO_PKG_VERSION")},
        "paths": {
            "/": text("A page for people"),
            "/healthz": text("200 when the service can serve, 503 and the reason when not"),
            "/metrics": text("Prometheus metrics"),
            "/api/v1/status": text("Everything the service tells about itself, JSON"),
        }
    }))
    .into_response()
}

async fn page(State(source): Source) -> Html<String> {
    let health = source.health();
    let (class, text) = match &health {
        Ok(()) => ("good", "healthy".to_owned()),
        Err(why) => ("bad", why.clone()),
    };
    let name = escape(&source.name());
    let mut body = String::new();
    render(&source.status().await, &mut body);
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <meta http-equiv=refresh content=5><title>{name} - xtfs</title><style>{STYLE}</style>\
         <header><h1>{name}</h1><p class={class}>{}</p></header><main>{body}</main>\
         <footer><a href=/metrics>metrics</a> <a href=/api/v1/status>JSON</a> \
         <a href=/api/v1/openapi.json>API</a> <span>xtfs {}</span></footer></html>",
        escape(&text),
        env!("CARGO_PKG_VERSION"),
    ))
}

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--good:#188038;--bad:#c5221f}\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
header{display:flex;gap:1rem;align-items:center;flex-wrap:wrap}h1{margin:0;font-size:1.5rem}\
.good,.bad{margin:0;padding:.1rem .7rem;border-radius:1rem;color:#fff}.good{background:var(--good)}.bad{background:var(--bad)}\
table{border-collapse:collapse;width:100%;margin:.3rem 0}td,th{border-bottom:1px solid var(--line);padding:.3rem .6rem;\
text-align:left;vertical-align:top;overflow-wrap:anywhere}th{font-weight:600}td.n{text-align:right;font-variant-numeric:tabular-nums}\
main>table>tbody>tr>th{width:14rem}footer{margin-top:2rem;display:flex;gap:1rem;opacity:.8}";

/// JSON as tables: an object becomes rows, a list of objects a table with a column per key.
fn render(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            out.push_str("<table><tbody>");
            for (key, value) in map {
                out.push_str(&format!("<tr><th scope=row>{}</th><td>", escape(&key.replace('_', " "))));
                render(value, out);
                out.push_str("</td></tr>");
            }
            out.push_str("</tbody></table>");
        }
        Value::Array(list) => match list.first() {
            None => out.push('-'),
            Some(Value::Object(first)) => {
                out.push_str("<table><thead><tr>");
                for key in first.keys() {
                    out.push_str(&format!("<th scope=col>{}</th>", escape(&key.replace('_', " "))));
                }
                out.push_str("</tr></thead><tbody>");
                for item in list {
                    out.push_str("<tr>");
                    for key in first.keys() {
                        let cell = item.get(key).unwrap_or(&Value::Null);
                        out.push_str(if cell.is_number() { "<td class=n>" } else { "<td>" });
                        render(cell, out);
                        out.push_str("</td>");
                    }
                    out.push_str("</tr>");
                }
                out.push_str("</tbody></table>");
            }
            Some(_) => {
                for (at, item) in list.iter().enumerate() {
                    if at > 0 {
                        out.push_str("<br>");
                    }
                    render(item, out);
                }
            }
        },
        Value::String(text) => out.push_str(&escape(text)),
        Value::Null => out.push('-'),
        other => out.push_str(&other.to_string()),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_from_outside_cannot_inject_markup() {
        let mut out = String::new();
        render(&json!({"<b>": [{"name": "<script>"}], "list": ["a&b", 1, null]}), &mut out);
        assert!(!out.contains("<script>") && !out.contains("<b>"), "{out}");
        assert!(out.contains("a&amp;b"));
    }
}
