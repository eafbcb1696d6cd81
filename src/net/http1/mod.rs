//! What does an HTTP/1.1 message say, and how is one written?
//!
//! An own codec on `httparse`, and not hyper, because a proxy has to *judge* a message before it
//! is made tidy: hyper drops `Content-Length` beside `Transfer-Encoding` before a service sees
//! either, re-orders and re-cases what we would forward untouched, and hides interim answers. And
//! because the connection to the shard is then driven inside the client's own task, without a
//! channel or an allocation per request.
//!
//! Everything here is a pure function from bytes to facts or to bytes; sockets stand in
//! [`wire`](super::wire). Whatever two readers could understand differently is refused.
//!
//! The duties of RFC 9112 (messages and framing) for a recipient and an intermediary, each with the
//! tests that show it; `tests/architecture.rs` checks that they are there. *Stricter* marks what
//! the RFC lets a recipient repair and we refuse. The duties of RFC 9110 (fields and semantics)
//! stand in the docs of `proxy`, which has most of them.
//!
//! | RFC 9112 | duty | test |
//! |---|---|---|
//! | 2.2 | lines end in CRLF; a bare LF is refused (stricter) | `line_ends`, `each_limit_has_its_error` |
//! | 2.2 | a bare CR is refused wherever it stands | `every_byte_at_every_kind_of_place`, `every_byte_in_a_reason_and_a_value` |
//! | 2.2 | one empty line before a request is skipped, a second one refused | `empty_lines_before_the_first`, `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on` |
//! | 2.2 | no white space between the first line and the first field | `field_lines`, `fields` |
//! | 2.3 | HTTP/1.0 and 1.1; any other version is 505, what is none is 400 | `first_lines`, `status_lines` |
//! | 3 | one space between the words of a request line, and nowhere else (stricter) | `first_lines` |
//! | 3 | a target that is too long is 414 | `what_is_too_large_is_refused` |
//! | 3.1 | methods are tokens, their case is kept | `first_lines` |
//! | 3.2 | a target has one of four forms, without white space or control characters | `targets` |
//! | 3.2 | exactly one `Host`, well formed; HTTP/1.0 may have none | `hosts` |
//! | 3.2.2 | absolute-form is understood; its authority is the host, and `Host` must agree (stricter) | `an_absolute_target_and_host_agree`, `the_shard_hears_the_host_that_the_pool_says` |
//! | 3.2.3 | authority-form with CONNECT only, with a port | `targets` |
//! | 3.2.4 | `*` with OPTIONS only; an absolute-form without path is `*` as well | `targets`, `options_go_as_far_as_they_may` |
//! | 4 | a status line has three digits; the reason may be empty, and goes on | `status_lines` |
//! | 5 | field names are tokens; a line without a colon is refused | `field_lines`, `fields` |
//! | 5.1 | no white space before the colon: 400, and 502 for a shard (stricter) | `field_lines`, `a_bad_answer_is_never_taken_for_a_good_one_and_its_connection_never_used_again` |
//! | 5.1 | white space around a value is not part of it | `values_lose_the_white_space_around_them_and_nothing_else` |
//! | 5.2 | folded lines are refused, also in trailers (stricter for answers) | `field_lines`, `fields`, `trailers` |
//! | 6.1 | `Transfer-Encoding` is `chunked`, once; anything else is 501 | `transfer_codings` |
//! | 6.1 | `Transfer-Encoding` in HTTP/1.0 is refused, on both sides | `transfer_codings`, `old_servers` |
//! | 6.1 | no `Transfer-Encoding` to HTTP/1.0, nor in 1xx and 204 | `an_answers_end_is_told_to_each_in_its_way`, `answers_without_content_keep_their_fields` |
//! | 6.2 | no `Content-Length` is sent beside `Transfer-Encoding` | `wishes_and_framing_are_said`, `what_is_forwarded_is_read_as_it_was_meant` |
//! | 6.3, 1 | no content follows HEAD's answer, 1xx, 204 and 304, whatever they say | `some_answers_have_no_body_whatever_they_say`, `a_body_is_announced_where_none_may_be` |
//! | 6.3, 3 | `Transfer-Encoding` beside `Content-Length` is refused (stricter) | `transfer_codings`, `bodies_end_where_the_head_says` |
//! | 6.3, 4 | a request whose codings do not end in `chunked` is refused | `transfer_codings` |
//! | 6.3, 5 | `Content-Length` is one number of digits, not a list (stricter), below 2^63 | `lengths`, `bodies_end_where_the_head_says` |
//! | 6.3, 7 | a request without either has no body | `lengths` |
//! | 6.3, 8 | an answer without either ends with its connection | `bodies_end_where_the_head_says`, `an_answers_end_is_told_to_each_in_its_way` |
//! | 7.1 | chunks: hexadecimal sizes, CRLF, no overflow; re-chunked when passed on | `data_and_ends`, `what_readers_were_found_to_differ_on`, `chunk_heads_are_read_as_they_were_written` |
//! | 7.1.1 | chunk extensions are ignored, bounded, and not passed on | `what_is_beside_the_data_is_bounded`, `a_request_in_single_bytes_is_the_same_request` |
//! | 7.1.2 | trailers are bounded and judged, and never merged into the head | `trailers`, `an_answers_end_is_told_to_each_in_its_way` |
//! | 7.2 | transfer codings that are not understood are 501 | `transfer_codings` |
//! | 7.4 | `TE` is of this hop; only `trailers` is asked for, and named in `Connection` | `expectations_and_trailers`, `wishes_and_framing_are_said` |
//! | 8 | a message that is cut is not completed: neither a request | `an_upload_that_breaks_off_is_not_completed` |
//! | 8 | nor an answer, and what is cut is seen as cut | `a_bad_answer_is_never_taken_for_a_good_one_and_its_connection_never_used_again` |
//! | 9.2 | what a shard says unasked is nobody's answer | `what_a_shard_says_unasked_is_nobodys_answer` |
//! | 9.3 | connections persist by version and `Connection`; `close` wins | `connection_options`, `connections_to_shards_live_on` |
//! | 9.3 | a connection whose request was not read to its end is closed | `an_early_refusal_reaches_a_client_that_is_still_sending` |
//! | 9.3.1 | only what may be repeated is repeated after a cut | `only_what_may_be_repeated_is_repeated`, `what_is_repeated_depends_on_what_is_known_to_have_happened` |
//! | 9.3.2 | pipelined requests are answered in order | `pipelined_requests_are_answered_in_order` |
//! | 9.5 | who is silent or too slow is told 408, or closed | `a_client_that_dawdles_is_not_waited_for` |
//! | 9.6 | `close` is said with the last answer, and what follows is not read | `what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on`, `connections_and_their_requests_are_counted_out` |
//! | 9.6 | a connection is closed such that the answer is not lost | `who_sends_all_before_it_reads_is_told_why_nobody_wants_it` |
//! | 9.6 | a client that shuts its side is answered | `a_client_that_shuts_its_side_is_answered` |
//! | 11.1 | an answer cannot be split: CR, LF and NUL never come out of a field | `every_byte_in_a_reason_and_a_value`, `a_bad_answer_is_never_taken_for_a_good_one_and_its_connection_never_used_again` |
//! | 11.2 | a request is read by the shard as it was meant | `what_is_forwarded_is_read_as_it_was_meant`, `a_naive_reader_of_the_grammar_agrees`, `hyper_reads_what_we_read` |

pub mod chunked;
pub mod framing;
pub mod head;
pub mod request;
pub mod response;
pub mod scan;

#[cfg(test)]
pub(crate) mod differential;
