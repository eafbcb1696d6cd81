//! What does this HTTP request mean, and what do we answer?
//!
//! ```text
//! accept ─▶ connection ─▶ head judged ─▶ route, key ─▶ forward renders ─▶ dispatch::run
//!               ▲                                                              │
//!               └────────── next request ◀── log, metrics ◀── answer, problem ◀┘
//! ```
//!
//! One task serves one client connection and drives the shard's connection too; a request is
//! parsed once, here, and nobody below looks at HTTP semantics again. While it waits for a request
//! a connection holds no buffer.
//!
//! Invariants:
//! 1. A connection whose request was not read to its end, or whose answer broke off, is closed.
//! 2. Every request is answered, counted and logged exactly once.
//! 3. What is ambiguous is answered 400 and the connection closed (DESIGN, section 13).
//!
//! The duties of RFC 9110 for a gateway, each with the tests that show it (`tests/architecture.rs`
//! checks that they are there); those of RFC 9112 stand in [`net::http1`](crate::net::http1):
//!
//! | RFC 9110 | duty | test |
//! |---|---|---|
//! | 4.2.3, 7.2 | a key has one spelling, whatever form the target has | `spellings_of_one_path_have_one_form`, `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 5.1, 9.1, 15 | unknown fields, methods and statuses go on | `what_is_end_to_end_is_not_touched`, `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 5.3 | fields keep their order; lines of one name are not merged or re-ordered | `what_is_end_to_end_is_not_touched`, `what_is_forwarded_is_read_as_it_was_meant` |
//! | 5.4 | fields have limits, and what exceeds them is 431 and never dropped | `what_is_too_large_is_refused` |
//! | 5.5 | CR, LF and NUL in a value are refused; other control characters as well (stricter) | `every_byte_at_every_kind_of_place`, `every_byte_in_a_reason_and_a_value` |
//! | 6.2 | an answer says the version that we speak, to HTTP/1.0 too | `an_answers_end_is_told_to_each_in_its_way` |
//! | 6.5 | trailers are passed on to who asked for them, and never merged | `an_answers_end_is_told_to_each_in_its_way`, `trailers` |
//! | 6.5.1 | fields that frame, route, authenticate or condition are no trailers | `trailers`, `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 6.6.1 | `Date` is added where it is missing, and else kept | `what_is_end_to_end_is_not_touched` |
//! | 7.4 | a request that names another host than its target is refused | `an_absolute_target_and_host_agree` |
//! | 7.6 | an HTTP/1.1 head is written anew: our version, our framing | `a_request_stands_below_the_base_path`, `what_is_forwarded_is_read_as_it_was_meant` |
//! | 7.6.1 | fields named by `Connection` go no further, on both sides; `Connection` neither | `connection_options`, `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on`, `a_bad_answer_is_never_taken_for_a_good_one_and_its_connection_never_used_again` |
//! | 7.6.1 | `Keep-Alive`, `Proxy-Connection`, `TE`, `Transfer-Encoding`, `Upgrade` are of one hop | `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 7.6.1 | a `Connection` that names what every recipient needs is refused (stricter) | `connection_options` |
//! | 7.6.2 | `Max-Forwards` counts down with OPTIONS, is answered at 0, and is left alone otherwise | `options_go_as_far_as_they_may` |
//! | 7.6.3 | `Via` is added to requests, with the version that was received | `via_has_the_version_of_the_client`, `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 7.7 | content, `Content-Encoding`, `Content-Range` and validators are not touched | `what_is_end_to_end_is_not_touched` |
//! | 7.8 | `Upgrade` is refused by going no further: nobody is told 101 | `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on`, `a_bad_answer_is_never_taken_for_a_good_one_and_its_connection_never_used_again` |
//! | 8.6 | `Content-Length` is not sent where it is not known; 0 is said for PUT, POST and PATCH | `wishes_and_framing_are_said`, `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 8.6 | the length of what HEAD or 304 leave out is kept; 204 and 1xx have none | `answers_without_content_keep_their_fields` |
//! | 9.2.2 | only idempotent requests are repeated, and no conditional write | `only_what_may_be_repeated_is_repeated`, `what_is_repeated_depends_on_what_is_known_to_have_happened` |
//! | 9.3.2 | HEAD's answer has no content | `answers_without_content_keep_their_fields`, `pipelined_requests_are_answered_in_order` |
//! | 9.3.6 | CONNECT is not for a gateway: 405 | `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 9.3.7 | `OPTIONS *` is about this server | `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 9.3.8 | TRACE, which would echo what was added, is 405 | `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 10.1.1 | `100-continue` is the shard's to meet; no other expectation is: 417 | `an_expectation_is_the_shards_to_meet`, `expectations_and_trailers` |
//! | 10.1.1 | an expectation of HTTP/1.0 is ignored; who is refused is not asked for content | `expectations_and_trailers`, `an_early_refusal_reaches_a_client_that_is_still_sending` |
//! | 10.1.4 | `TE` is asked anew, with `Connection: TE` | `wishes_and_framing_are_said` |
//! | 11.7, 11.6 | credentials and challenges go on untouched: this is no forward proxy | `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 14.4 | ranges are the shard's: 206, `Content-Range` and `Accept-Ranges` go on | `what_is_end_to_end_is_not_touched` |
//! | 15.2 | interim answers go on, bounded, and not to HTTP/1.0 | `interim_answers_go_on_to_who_knows_them`, `a_bad_answer_is_never_taken_for_a_good_one_and_its_connection_never_used_again` |
//! | 15.2.1 | `100 Continue` goes to who asked for it only | `interim_answers_go_on_to_who_knows_them` |
//! | 15.5.15, 15.6.3, 15.6.5 | 414, 502 and 504 where a gateway says them | `what_is_too_large_is_refused`, `a_shard_that_dawdles_is_not_waited_for` |
//! | 17.3, 17.4 | nothing of a request or an answer reaches another client | `what_a_shard_says_unasked_is_nobodys_answer`, `pipelined_requests_are_answered_in_order` |

pub mod access_log;
mod answer;
mod body;
mod client;
mod connection;
pub mod door;
mod exchange;
mod forward;
mod h2;
mod kept;
mod listing;
pub mod metrics;
#[cfg(test)]
mod passage_tests;
pub mod problem;
pub mod rate_limit;
mod routing;
mod seam;
mod seen;
pub mod serve;
pub mod site;
#[cfg(test)]
mod tests;
pub mod traces;
