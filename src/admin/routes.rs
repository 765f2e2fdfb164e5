//! What each request gets.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::answer::{self, AdminAnswer, JsonLines};
use super::exposition::{self, Exposition};
use super::filter::Filter;
use super::health::Reason;
use super::list;
use super::overview::Overview;
use super::page;
use super::request::{self, AdminMethod, AdminRequest};
use super::survey::Survey;
use super::ticker::Ticker;
use super::trace::WATCHERS_MAX;
use super::view::SessionView;
use super::{NoAnswer, NotReloaded};
use crate::bits::session_id::SessionId;
use crate::http::head::Version;
use crate::server::window::{How, Inquiry, Insight, NotEnded};

/// How often a viewer of packets is written something even if nothing comes: so that one that has
/// gone is noticed.
const PULSE: Duration = Duration::from_secs(5);

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// The socket: by a user and a process, as the kernel says.
    Socket {
        user: Option<u32>,
        process: Option<i32>,
    },
    /// An address: by anybody.
    Address,
}

/// How long an answer may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// It has a thread of its own.
    AsLongAsItLikes,
    /// Others wait for its end.
    Briefly,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Index,
    Live,
    Ready,
    Metrics,
    Status,
    Sessions,
    Session(SessionId),
    Attention,
    Lately,
    Folders,
    Events,
    Trace,
    Order(Order),
}

/// What changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Reload,
    Drain,
    End(SessionId, How),
}

/// Answers a request.
///
/// # Errors
/// What the stream says.
pub fn respond(
    overview: &Arc<Overview>,
    ticker: &Ticker,
    request: &AdminRequest,
    (from, stay): (From, Stay),
    out: &mut impl Write,
) -> io::Result<()> {
    let is_head = request.method == AdminMethod::Head;
    let config = overview.house.config();
    // Over the socket too: `ssh -L` brings browsers there.
    if !request::is_ours(request.host.as_deref(), &config.admin_names) {
        let why = "this host is not one of admin_names: name the server by its address";
        return AdminAnswer::outcome(403, why).write(out, is_head);
    }
    let Some(route) = route(&request.path) else {
        let why = "there is nothing of that name: GET / says what there is";
        return AdminAnswer::outcome(404, why).write(out, is_head);
    };
    if request.is_of_page && request.method == AdminMethod::Post {
        let why = "a page in a browser gives no orders";
        return AdminAnswer::outcome(403, why).write(out, is_head);
    }
    if let Err(refused) = may(&route, request.method, from) {
        return refused.write(out, is_head);
    }
    // Whoever looks after health adds what keeps caches away.
    let pairs = request.query.iter().filter(|_| has_filters(&route));
    let filter = Filter::read(pairs.map(|(name, value)| (name.as_str(), value.as_str())));
    let checked = filter.and_then(|filter| filter.check(&config).map(|()| filter));
    let filter = match checked {
        Ok(filter) => filter,
        Err(why) => return AdminAnswer::outcome(400, why).write(out, is_head),
    };
    match route {
        Route::Trace | Route::Events if stay == Stay::Briefly => {
            let why = "the server can start no thread for it: raise TasksMax= of the service";
            AdminAnswer::outcome(503, why).write(out, is_head)
        }
        Route::Sessions if !is_head => {
            let hides_ids = matches!(from, From::Address);
            list::write(overview, &filter, hides_ids, (out, request.version))
        }
        Route::Trace if !is_head => trace(overview, &filter, (out, request.version)),
        Route::Events if !is_head => ticker.show(out),
        Route::Sessions | Route::Trace => answer::write_head(out, answer::JSON_LINES),
        Route::Events => answer::write_head(out, answer::EVENTS),
        route => whole(overview, &route, request, from).write(out, is_head),
    }
}

fn route(path: &str) -> Option<Route> {
    let mut names = path.trim_matches('/').split('/');
    let names = [
        names.next(),
        names.next(),
        names.next(),
        names.next(),
        names.next(),
    ];
    let id = |text: &str| SessionId::parse(text.as_bytes());
    Some(match names {
        [Some(""), ..] => Route::Index,
        [Some("live"), None, ..] => Route::Live,
        [Some("ready"), None, ..] => Route::Ready,
        [Some("metrics"), None, ..] => Route::Metrics,
        [Some("events"), None, ..] => Route::Events,
        [Some("v1"), Some("status"), None, ..] => Route::Status,
        [Some("v1"), Some("sessions"), None, ..] => Route::Sessions,
        [Some("v1"), Some("trace"), None, ..] => Route::Trace,
        [Some("v1"), Some("attention"), None, ..] => Route::Attention,
        [Some("v1"), Some("lately"), None, ..] => Route::Lately,
        [Some("v1"), Some("folders"), None, ..] => Route::Folders,
        [Some("v1"), Some("reload"), None, ..] => Route::Order(Order::Reload),
        [Some("v1"), Some("drain"), None, ..] => Route::Order(Order::Drain),
        [Some("v1"), Some("sessions"), Some(text), None, _] => Route::Session(id(text)?),
        [Some("v1"), Some("sessions"), Some(text), Some(how), None] => {
            let how = match how {
                "cancel" => How::Cancelled,
                "expire" => How::Expired,
                _ => return None,
            };
            Route::Order(Order::End(id(text)?, how))
        }
        _ => return None,
    })
}

/// Whether what stands behind the question mark of its URL means anything.
fn has_filters(route: &Route) -> bool {
    !matches!(
        route,
        Route::Index | Route::Live | Route::Ready | Route::Metrics | Route::Events
    )
}

/// Whether this may be done so, and here.
fn may(route: &Route, method: AdminMethod, from: From) -> Result<(), AdminAnswer> {
    let is_order = matches!(route, Route::Order(_));
    let allow = if is_order { "POST" } else { "GET, HEAD" };
    let refused = |status, why: &str, allow| AdminAnswer {
        allow,
        ..AdminAnswer::outcome(status, why)
    };
    match (from, method, is_order) {
        (From::Address, AdminMethod::Post | AdminMethod::Other, _) | (From::Address, _, true) => {
            let why = "an address takes no orders: they are given over admin_socket";
            Err(refused(405, why, Some("GET, HEAD")))
        }
        (From::Address, ..) if *route == Route::Trace => {
            let why = "packets are watched over admin_socket only";
            Err(refused(403, why, None))
        }
        (_, AdminMethod::Post, true) | (_, AdminMethod::Get | AdminMethod::Head, false) => Ok(()),
        _ => Err(refused(405, "not by this method", Some(allow))),
    }
}

fn whole(overview: &Overview, route: &Route, request: &AdminRequest, from: From) -> AdminAnswer {
    match route {
        Route::Index if page::is_wanted(request.accept.as_deref()) => page::answer(overview),
        Route::Index | Route::Sessions | Route::Trace | Route::Events => {
            AdminAnswer::text(200, INDEX)
        }
        Route::Attention => AdminAnswer::json(200, &page::attention(overview)),
        Route::Lately => {
            let lately = Survey::of(&*overview.house).lately(&mut Vec::new());
            let views: Vec<_> = lately.into_iter().rev().map(|known| known.view).collect();
            AdminAnswer::json(200, &views)
        }
        Route::Folders => AdminAnswer::json(200, &Survey::of(&*overview.house).folders()),
        Route::Live => {
            let health = overview.health();
            judged(health.is_live(), &health.not_live)
        }
        Route::Ready => {
            let health = overview.health();
            judged(health.is_ready(), &health.reasons())
        }
        Route::Metrics => {
            let form = Exposition::accepted(request.accept.as_deref());
            match exposition::page(overview.scrape(), form) {
                Ok(page) => AdminAnswer {
                    media_type: form.media_type(),
                    ..AdminAnswer::text(200, page)
                },
                Err(error) => AdminAnswer::outcome(500, error.to_string()),
            }
        }
        Route::Status => AdminAnswer::json(200, &overview.status()),
        Route::Session(id) => match ask(overview, *id, Inquiry::Show(*id)) {
            Ok(Insight::Rows(rows)) => match rows.into_iter().next() {
                Some(row) => AdminAnswer::json(200, &SessionView::of(&row)),
                None => match overview.recovering() {
                    Some(why) => AdminAnswer::not_all_known(&why),
                    None => AdminAnswer::outcome(404, "there is no such session, or no more"),
                },
            },
            Ok(_) | Err(NoAnswer) => AdminAnswer::no_answer(),
        },
        Route::Order(order) => {
            let answer = obey(overview, *order);
            tell(*order, from, &answer);
            answer
        }
    }
}

/// 200 or 503, with reasons.
fn judged(is_well: bool, reasons: &[Reason]) -> AdminAnswer {
    let status = if is_well { 200 } else { 503 };
    let body = serde_json::json!({ "ok": is_well, "reasons": reasons });
    AdminAnswer::json(status, &body)
}

fn ask(overview: &Overview, id: SessionId, inquiry: Inquiry) -> Result<Insight, NoAnswer> {
    let shard = id.shard(overview.house.metrics().shards.len());
    overview.house.ask(shard, inquiry)
}

fn obey(overview: &Overview, order: Order) -> AdminAnswer {
    match order {
        Order::Reload => match overview.house.reload() {
            Ok(changed) if changed.is_empty() => {
                AdminAnswer::outcome(200, "the settings were reloaded; nothing has changed")
            }
            Ok(changed) => {
                AdminAnswer::outcome(200, format!("the settings were reloaded: {changed}"))
            }
            Err(NotReloaded::Refused(why)) => {
                let message = format!("the settings were not reloaded, the old ones stay: {why}");
                AdminAnswer::outcome(409, message)
            }
            Err(NotReloaded::GoesOn(why)) => AdminAnswer::outcome(503, why),
        },
        Order::Drain => {
            let reasons = overview.health().not_ready;
            let under_way = reasons.iter().find(|reason| reason.reason == "draining");
            // An end for a new program is not the one that is asked for.
            let makes_way = overview.house.metrics().makes_way.get() != 0;
            overview.house.drain();
            match under_way {
                _ if makes_way => AdminAnswer::outcome(
                    200,
                    "the server stops when running requests are finished, and no new program takes its place",
                ),
                None => {
                    AdminAnswer::outcome(200, "the server stops when running requests are finished")
                }
                Some(reason) => {
                    let message = format!("nothing new: {}", reason.why);
                    AdminAnswer::outcome(200, message)
                }
            }
        }
        Order::End(id, how) => match ask(overview, id, Inquiry::End(id, how)) {
            Ok(Insight::Ended(Ok(()))) => {
                let how = match how {
                    How::Cancelled => "cancelled",
                    How::Expired => "expired",
                };
                AdminAnswer::outcome(200, format!("session {id} is {how}"))
            }
            Ok(Insight::Ended(Err(why))) => {
                let (status, why) = match why {
                    NotEnded::Unknown => (404, "there is no such session, or no more"),
                    NotEnded::TakenOver => (409, "its client came in the same moment: try again"),
                    NotEnded::Busy => (
                        409,
                        "a request for it is under way that takes its time, and the order was \
                         dropped: try again",
                    ),
                    NotEnded::IsPublished => (
                        409,
                        "its file is being given its name, or is on its way to an object store, \
                         and is not called back",
                    ),
                    NotEnded::Unsettled => (
                        409,
                        "its file is published, and its line in the custody ledger or its digest \
                         file cannot be written now: the log says why; it ends as soon as that can",
                    ),
                    NotEnded::AwaitsDisk => (
                        409,
                        "it waits for a disk that was not there at the start: mount that and restart bitsd; or end it \
                         while the server does not run",
                    ),
                    NotEnded::NotNow => (503, "not now: the server is starting or stopping"),
                };
                AdminAnswer::outcome(status, why)
            }
            Ok(_) | Err(NoAnswer) => {
                let why = "the shard does not answer: if it has begun already, the session ends \
                           nevertheless (`bitsd sessions show` tells)";
                AdminAnswer::outcome(503, why)
            }
        },
    }
}

/// Each order is told, with whoever gave it.
fn tell(order: Order, from: From, answer: &AdminAnswer) {
    let (user, process) = match from {
        From::Socket { user, process } => (user, process),
        From::Address => (None, None),
    };
    let (order, session) = match order {
        Order::Reload => ("reload", None),
        Order::Drain => ("drain", None),
        Order::End(id, How::Cancelled) => ("cancel", Some(id)),
        Order::End(id, How::Expired) => ("expire", Some(id)),
    };
    let session = session.map(tracing::field::display);
    let (event, status) = ("admin_order", answer.status);
    tracing::info!(
        event,
        order,
        session,
        status,
        uid = user,
        pid = process,
        "an administrator gave an order"
    );
}

/// Packets, one a line, until the viewer has seen enough.
fn trace(
    overview: &Overview,
    filter: &Filter,
    (out, version): (&mut impl Write, Version),
) -> io::Result<()> {
    let Some(watching) = overview.house.tap().watch() else {
        let why = format!(
            "{WATCHERS_MAX} watch packets already: end one of them; one that has just ended counts for {} s more",
            PULSE.as_secs()
        );
        return AdminAnswer::outcome(503, why).write(out, false);
    };
    let mut lines = JsonLines::begin(out, version)?;
    let mut missed = 0;
    loop {
        match watching.queue.recv_timeout(PULSE) {
            Ok(mut traced) if filter.shows(&traced) => {
                traced.missed = std::mem::take(&mut missed) + watching.missed();
                lines.add(|line| Ok(serde_json::to_writer(line, &traced)?))?;
                lines.send()?;
            }
            Ok(_) => missed += watching.missed(),
            Err(RecvTimeoutError::Timeout) => {
                lines.add(|_| Ok(()))?;
                lines.send()?;
            }
            Err(RecvTimeoutError::Disconnected) => return lines.end(),
        }
    }
}

const INDEX: &str = "\
bitsd: the administrator's interface

GET  /                         a page for a browser, this text for others
GET  /events                   what the page shows, as server-sent events
GET  /live                     200 while every shard has its turns
GET  /ready                    200 while new uploads are taken, else why not
GET  /metrics                  for Prometheus
GET  /v1/status                the server as a whole
GET  /v1/sessions              uploads that have not ended, one a line
                               (location= path= client= user= state= idle=SECONDS session=
                               any=TEXT limit=)
GET  /v1/sessions/ID           one of them
GET  /v1/attention             what is stuck, and why
GET  /v1/lately                the last ends and refusals
GET  /v1/folders               what came into each folder since the start

Over admin_socket only:
GET  /v1/trace                 packets as they come, one a line (client= path= session=)
POST /v1/sessions/ID/cancel    ends an upload
POST /v1/sessions/ID/expire    ends an upload as if its time were over
POST /v1/reload                reads the settings again
POST /v1/drain                 stops the server in order
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_leads_to_one_thing() {
        let id = "7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE";
        let session = SessionId::parse(id.as_bytes()).unwrap();
        for (path, expected) in [
            ("/", Some(Route::Index)),
            ("/live", Some(Route::Live)),
            ("/ready/", Some(Route::Ready)),
            ("/v1/status", Some(Route::Status)),
            ("/v1/sessions", Some(Route::Sessions)),
            ("/v1/reload", Some(Route::Order(Order::Reload))),
            ("/live/x", None),
            ("/v1", None),
            ("/v1/sessions/7", None),
            ("/favicon.ico", None),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
        assert_eq!(
            route(&format!("/v1/sessions/{{{id}}}")),
            Some(Route::Session(session))
        );
        let order = Route::Order(Order::End(session, How::Expired));
        assert_eq!(route(&format!("/v1/sessions/{id}/expire")), Some(order));
        assert_eq!(route(&format!("/v1/sessions/{id}/publish")), None);
        assert_eq!(route(&format!("/v1/sessions/{id}/expire/x")), None);
    }

    #[test]
    fn orders_come_over_the_socket_by_post_and_nothing_else_does() {
        let socket = From::Socket {
            user: None,
            process: None,
        };
        let reload = Route::Order(Order::Reload);
        let status = |route: &Route, method, from| match may(route, method, from) {
            Ok(()) => 200,
            Err(answer) => {
                assert_eq!(answer.allow.is_some(), answer.status == 405);
                answer.status
            }
        };
        assert_eq!(status(&reload, AdminMethod::Post, socket), 200);
        assert_eq!(status(&reload, AdminMethod::Get, socket), 405);
        for method in [AdminMethod::Post, AdminMethod::Get, AdminMethod::Other] {
            assert_eq!(status(&reload, method, From::Address), 405);
        }
        for from in [socket, From::Address] {
            assert_eq!(status(&Route::Live, AdminMethod::Get, from), 200);
            assert_eq!(status(&Route::Live, AdminMethod::Head, from), 200);
            assert_eq!(status(&Route::Live, AdminMethod::Post, from), 405);
            assert_eq!(status(&Route::Live, AdminMethod::Other, from), 405);
        }
        assert_eq!(status(&Route::Trace, AdminMethod::Get, socket), 200);
        assert_eq!(status(&Route::Trace, AdminMethod::Get, From::Address), 403);
    }
}
