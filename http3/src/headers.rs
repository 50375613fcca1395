//! Messages as field lines: `http` types to QPACK fields and back, with the rules of RFC 9114 sections 4.2 and 4.3.
//!
//! Owns what makes a header or trailer section malformed. Every violation here ends one request, never the connection.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, uri};

use crate::{
    error::{Error, Violation},
    qpack::{Field, encoder::SectionWriter},
};

/// Fields that belong to a connection of HTTP/1.1 and make an HTTP/3 message malformed (RFC 9114 section 4.2).
const CONNECTION_SPECIFIC: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// A request's header section.
pub(crate) fn encode_request<B>(request: &Request<B>) -> Result<SectionWriter, Error> {
    let uri = request.uri();
    let authority = uri.authority().map(uri::Authority::as_str);
    let mut section = SectionWriter::new();
    section.field(b":method", request.method().as_str().as_bytes(), false);
    if request.method() == Method::CONNECT {
        // RFC 9114 section 4.4: no scheme and no path.
        let authority = authority.ok_or(Error::Invalid("CONNECT needs host:port as its URI"))?;
        section.field(b":authority", authority.as_bytes(), false);
    } else {
        let scheme = uri.scheme_str().ok_or(Error::Invalid("the URI has no scheme; write https://host/path"))?;
        let authority = authority.ok_or(Error::Invalid("the URI has no host; write https://host/path"))?;
        section.field(b":scheme", scheme.as_bytes(), false);
        section.field(b":authority", without_userinfo(authority).as_bytes(), false);
        section.field(b":path", path_of(uri).as_bytes(), false);
    }
    encode_fields(&mut section, request.headers())?;
    Ok(section)
}

/// A response's header section.
pub(crate) fn encode_response<B>(response: &Response<B>) -> Result<SectionWriter, Error> {
    // RFC 9114 section 4.1: an interim response is never the last one.
    if response.status().is_informational() {
        return Err(Error::Invalid("a status of 1xx, which answers no request"));
    }
    let mut section = SectionWriter::new();
    section.field(b":status", response.status().as_str().as_bytes(), false);
    encode_fields(&mut section, response.headers())?;
    Ok(section)
}

/// A trailer section.
pub(crate) fn encode_trailers(trailers: &HeaderMap) -> Result<SectionWriter, Error> {
    let mut section = SectionWriter::new();
    encode_fields(&mut section, trailers)?;
    Ok(section)
}

fn encode_fields(section: &mut SectionWriter, headers: &HeaderMap) -> Result<(), Error> {
    for (name, value) in headers {
        if CONNECTION_SPECIFIC.contains(&name.as_str()) || (name == header::TE && value != "trailers") {
            return Err(Error::Invalid("a connection-specific field such as Connection or Transfer-Encoding; leave it out"));
        }
        section.field(name.as_str().as_bytes(), value.as_bytes(), value.is_sensitive());
    }
    Ok(())
}

/// RFC 9114 section 4.3.1: an empty path is sent as `/`.
fn path_of(uri: &Uri) -> &str {
    match uri.path_and_query().map(uri::PathAndQuery::as_str) {
        Some("") | None => "/",
        Some(path) => path,
    }
}

/// RFC 9114 section 4.3.1: `:authority` must not carry the deprecated user information.
fn without_userinfo(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Pseudo-header fields of one section, each at most once.
#[derive(Default)]
struct Pseudo {
    method: Option<Vec<u8>>,
    scheme: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    status: Option<Vec<u8>>,
}

impl Pseudo {
    fn set(&mut self, name: &[u8], value: Vec<u8>) -> Result<(), Violation> {
        let slot = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":status" => &mut self.status,
            _ => return Err(Violation::message("an unknown pseudo-header field")),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(Violation::message("a pseudo-header field twice")),
        }
    }

    fn is_empty(&self) -> bool {
        self.method.is_none() && self.scheme.is_none() && self.authority.is_none() && self.path.is_none() && self.status.is_none()
    }
}

/// The request that a header section describes.
pub(crate) fn decode_request(fields: Vec<Field>) -> Result<Request<()>, Violation> {
    let (pseudo, headers) = split(fields)?;
    if pseudo.status.is_some() {
        return Err(Violation::message("a request with :status"));
    }
    let method = pseudo.method.as_deref().ok_or(Violation::message("a request without :method"))?;
    let method = Method::from_bytes(method).map_err(|_| Violation::message("a request with an invalid :method"))?;
    let authority = match &pseudo.authority {
        Some(value) => Some(parse_authority(value)?),
        None => None,
    };
    let host = headers.get(header::HOST).map(|value| parse_authority(value.as_bytes())).transpose()?;
    // RFC 9114 section 4.3.1: if both are there, they must be the same.
    if let (Some(authority), Some(host)) = (&authority, &host)
        && authority != host
    {
        return Err(Violation::message("a Host that is not :authority"));
    }
    let uri = if method == Method::CONNECT {
        if pseudo.scheme.is_some() || pseudo.path.is_some() {
            return Err(Violation::message("CONNECT with :scheme or :path"));
        }
        Uri::from(authority.ok_or(Violation::message("CONNECT without :authority"))?)
    } else {
        request_uri(&method, &pseudo, authority.or(host))?
    };
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_3;
    *request.headers_mut() = headers;
    Ok(request)
}

fn request_uri(method: &Method, pseudo: &Pseudo, authority: Option<uri::Authority>) -> Result<Uri, Violation> {
    const INVALID: Violation = Violation::message("a request whose :scheme, :authority and :path are no URI");
    let scheme = pseudo.scheme.as_deref().ok_or(Violation::message("a request without :scheme"))?;
    let path = pseudo.path.as_deref().ok_or(Violation::message("a request without :path"))?;
    let authority = authority.ok_or(Violation::message("a request without :authority or Host"))?;
    // RFC 9114 section 4.3.1: a path, or `*` for OPTIONS.
    if !(path.starts_with(b"/") || (path == b"*" && method == Method::OPTIONS)) {
        return Err(Violation::message("a request whose :path does not begin with /"));
    }
    let path = uri::PathAndQuery::try_from(path).map_err(|_| INVALID)?;
    Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().map_err(|_| INVALID)
}

fn parse_authority(value: &[u8]) -> Result<uri::Authority, Violation> {
    if value.contains(&b'@') {
        return Err(Violation::message("an authority with user information"));
    }
    uri::Authority::try_from(value).map_err(|_| Violation::message("an invalid authority"))
}

/// The response that a header section describes.
pub(crate) fn decode_response(fields: Vec<Field>) -> Result<Response<()>, Violation> {
    let (pseudo, headers) = split(fields)?;
    let Pseudo { method: None, scheme: None, authority: None, path: None, status: Some(status) } = pseudo else {
        return Err(Violation::message("a response whose pseudo-header fields are not :status alone"));
    };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_bytes(&status).map_err(|_| Violation::message("a response with an invalid :status"))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Violation::message("status 101, which HTTP/3 does not have"));
    }
    *response.version_mut() = Version::HTTP_3;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The trailers that a section describes.
pub(crate) fn decode_trailers(fields: Vec<Field>) -> Result<HeaderMap, Violation> {
    let (pseudo, trailers) = split(fields)?;
    // RFC 9114 section 4.3.
    if pseudo.is_empty() { Ok(trailers) } else { Err(Violation::message("trailers with a pseudo-header field")) }
}

/// Sorts the pseudo-header fields from the rest and checks every name and value.
fn split(fields: Vec<Field>) -> Result<(Pseudo, HeaderMap), Violation> {
    let mut pseudo = Pseudo::default();
    let mut headers = HeaderMap::new();
    for Field { name, value } in fields {
        if name.starts_with(b":") {
            // RFC 9114 section 4.3: before all regular fields.
            if !headers.is_empty() {
                return Err(Violation::message("a pseudo-header field after a regular field"));
            }
            pseudo.set(&name, value)?;
            continue;
        }
        // RFC 9114 section 4.2: upper case is malformed, and `from_lowercase` refuses it with all that is no token.
        let name = HeaderName::from_lowercase(&name).map_err(|_| Violation::message("a field name that is not lower-case token"))?;
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(value))
            .map_err(|_| Violation::message("a field value with a control character"))?;
        if CONNECTION_SPECIFIC.contains(&name.as_str()) || (name == header::TE && value != "trailers") {
            return Err(Violation::message("a connection-specific field"));
        }
        headers.try_append(name, value).map_err(|_| Violation::message("too many fields"))?;
    }
    join_cookies(&mut headers);
    Ok((pseudo, headers))
}

/// RFC 9114 section 4.2.1: cookie crumbs become one field before anything that is not HTTP/3 sees them.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        // Joining valid values with "; " keeps them valid.
        if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

/// Whether the answer to a request (HEAD or another) with this status has a body, or only fields about one (RFC 9110 section 6.4.1).
pub(crate) fn has_body(is_head: bool, status: StatusCode) -> bool {
    !is_head && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// The body length that the fields promise. Several equal values count as one (RFC 9110 section 8.6).
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Violation> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let digits = value.as_bytes();
        let parsed = Some(digits)
            .filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
            .and_then(|_| value.to_str().ok()?.parse::<u64>().ok())
            .ok_or(Violation::message("a Content-Length that is no number"))?;
        if length.is_some_and(|length| length != parsed) {
            return Err(Violation::message("two different Content-Length fields"));
        }
        length = Some(parsed);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qpack::decoder;

    fn fields(lines: &[(&str, &str)]) -> Vec<Field> {
        lines.iter().map(|(name, value)| Field { name: (*name).into(), value: (*value).into() }).collect()
    }

    fn request_with(extra: &[(&str, &str)]) -> Result<Request<()>, Violation> {
        let mut lines = vec![(":method", "GET"), (":scheme", "https"), (":authority", "a.example:4433"), (":path", "/x?y=1")];
        lines.extend(extra);
        decode_request(fields(&lines))
    }

    #[test]
    fn a_request_round_trips() {
        let request = Request::get("https://user@a.example/x?y=1").header("x-one", "1").header("x-one", "2").body(()).unwrap();
        let decoded = decode_request(decoder::decode(&encode_request(&request).unwrap().into_bytes(), 4096).unwrap()).unwrap();
        assert_eq!(decoded.uri(), "https://a.example/x?y=1");
        assert_eq!(decoded.headers(), request.headers());
        assert_eq!(decoded.version(), Version::HTTP_3);
    }

    #[test]
    fn a_response_round_trips() {
        let response = Response::builder().status(404).header("content-length", "3").body(()).unwrap();
        let decoded = decode_response(decoder::decode(&encode_response(&response).unwrap().into_bytes(), 4096).unwrap()).unwrap();
        assert_eq!((decoded.status(), decoded.headers()), (StatusCode::NOT_FOUND, response.headers()));
    }

    #[test]
    fn an_empty_path_is_a_slash() {
        let request = Request::get("https://a.example").body(()).unwrap();
        let section = decoder::decode(&encode_request(&request).unwrap().into_bytes(), 4096).unwrap();
        assert!(section.contains(&Field { name: b":path".to_vec(), value: b"/".to_vec() }));
    }

    #[test]
    fn malformed_requests_are_refused() {
        assert!(request_with(&[]).is_ok());
        for extra in [
            (":path", "/again"),
            (":unknown", ""),
            (":status", "200"),
            ("Upper", "case"),
            ("sp ace", "x"),
            ("", "x"),
            ("x", "a\r\nb"),
            ("x", "a\0b"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("host", "b.example"),
        ] {
            assert!(request_with(&[extra]).is_err(), "{extra:?}");
        }
        assert!(request_with(&[("te", "trailers"), ("host", "a.example:4433")]).is_ok());
        assert!(request_with(&[("x", "y"), (":authority", "late")]).is_err());
        let all = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
        for missing in 0..all.len() {
            let mut lines = all.to_vec();
            lines.remove(missing);
            assert!(decode_request(fields(&lines)).is_err(), "without {:?}", all[missing]);
        }
        for path in ["", "x", "*"] {
            let lines = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", path)];
            assert!(decode_request(fields(&lines)).is_err(), "{path:?}");
        }
    }

    #[test]
    fn connect_has_an_authority_alone() {
        assert!(decode_request(fields(&[(":method", "CONNECT"), (":authority", "a.example:443")])).is_ok());
        assert!(decode_request(fields(&[(":method", "CONNECT"), (":authority", "a.example:443"), (":path", "/")])).is_err());
    }

    #[test]
    fn malformed_responses_and_trailers_are_refused() {
        assert!(decode_response(fields(&[(":status", "200")])).is_ok());
        for lines in [&[][..], &[(":status", "2000")], &[(":status", "101")], &[(":status", "200"), (":path", "/")]] {
            assert!(decode_response(fields(lines)).is_err(), "{lines:?}");
        }
        assert!(decode_trailers(fields(&[("x-sum", "1")])).is_ok());
        assert!(decode_trailers(fields(&[(":status", "200")])).is_err());
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let request = request_with(&[("cookie", "a=1"), ("cookie", "b=2")]).unwrap();
        assert_eq!(request.headers().get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn content_length_is_one_number() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_LENGTH, HeaderValue::from_str(value).unwrap());
            }
            content_length(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["5"]), Ok(Some(5)));
        assert_eq!(of(&["5", "5"]), Ok(Some(5)));
        for wrong in [&["5", "6"][..], &["+5"], &["-1"], &[""], &["18446744073709551616"]] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
