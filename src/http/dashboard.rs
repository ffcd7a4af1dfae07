//! The files of the operators' dashboard, embedded in the binary. The dashboard itself calls the admin API.

use axum::{
    Router,
    body::Bytes,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::error::{ApiError, ErrorCode};

#[derive(RustEmbed)]
#[folder = "dashboard/"]
struct Files;

const PAGE: &str = "index.html";
/// The attribute of the page with the path of the API, relative to the page: a proxy may strip the beginning of the path.
const API_PATH_ATTRIBUTE: &str = r#"data-api="./v1""#;
const PATH: &str = "/dashboard";
/// The path that redirects to the page, whose relative links need the path without a slash.
pub(super) const WITH_SLASH: &str = "/dashboard/";

/// The page and its files, for the API at `base_path`.
pub(super) fn router(base_path: &str) -> Router {
    let page = Files::get(PAGE).map(|file| page_for(&file, base_path));
    Router::new()
        .route(
            PATH,
            get(async move |headers: HeaderMap| match &page {
                Some((text, tag)) => {
                    answer(&headers, "text/html; charset=utf-8", tag, text.clone())
                }
                None => ApiError::from(ErrorCode::NotFound).into_response(),
            }),
        )
        .route(
            WITH_SLASH,
            get(async || Redirect::permanent("../dashboard")),
        )
        .route("/dashboard/{*file}", get(file))
}

fn page_for(file: &EmbeddedFile, base_path: &str) -> (Bytes, HeaderValue) {
    let text = String::from_utf8_lossy(&file.data);
    let text = text.replace(API_PATH_ATTRIBUTE, &format!(r#"data-api=".{base_path}""#));
    // The path of the API is part of the page, and so of its tag.
    let tag = etag(file, base_path);
    (text.into(), tag)
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match Files::get(&name).filter(|_| name != PAGE) {
        Some(file) => {
            let tag = etag(&file, "");
            answer(&headers, &mime(&file), &tag, bytes(file))
        }
        None => ApiError::from(ErrorCode::NotFound).into_response(),
    }
}

fn mime(file: &EmbeddedFile) -> String {
    let mime = file.metadata.mimetype();
    if mime.starts_with("text/") {
        format!("{mime}; charset=utf-8")
    } else {
        mime.to_owned()
    }
}

fn bytes(file: EmbeddedFile) -> Bytes {
    match file.data {
        std::borrow::Cow::Borrowed(data) => Bytes::from_static(data),
        std::borrow::Cow::Owned(data) => data.into(),
    }
}

fn etag(file: &EmbeddedFile, variant: &str) -> HeaderValue {
    let hash = file.metadata.sha256_hash();
    let hash = u128::from_be_bytes(hash[..16].try_into().unwrap_or_default());
    HeaderValue::try_from(format!("\"{hash:032x}{variant}\""))
        .unwrap_or(HeaderValue::from_static("\"\""))
}

fn answer(headers: &HeaderMap, mime: &str, tag: &HeaderValue, body: Bytes) -> Response {
    if headers.get(header::IF_NONE_MATCH) == Some(tag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag.clone())]).into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::try_from(mime).ok()),
        (header::ETAG, Some(tag.clone())),
    ];
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    (headers.collect::<HeaderMap>(), body).into_response()
}
