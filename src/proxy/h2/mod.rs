//! How is HTTP/2 spoken with a client?
//!
//! The crate `h2` knows frames, HPACK, windows and the states of streams. Here its requests become
//! heads of HTTP/1.1, which the one judge looks at ([`request`]), its handles become the two ends
//! of an exchange ([`body`], [`answer`]), and its connection gets a task ([`connection`]) and a
//! floor to stand on that gathers what it writes and counts what it reads ([`io`], [`frames`]).
//! Shards are spoken to in HTTP/1.1.
//!
//! Who sees to the rules of RFC 9113 that bind a server or an intermediary; tests without a room
//! are in `tests/e2e/http2.rs`, those of floods in `tests/e2e/http2_floods.rs`:
//!
//! | section | rule | who | test |
//! |---|---|---|---|
//! | 3.3, 3.4 | the preface, SETTINGS first and acknowledged | we find it on a port of HTTP/1.1; `h2` | `both_protocols_share_a_port`, `it_can_be_switched_off` |
//! | 4.1, 4.2, 6.x | unknown frames and flags passed over; sizes, stream 0, lengths | `h2` | the library's |
//! | 4.3, 6.10 | field sections are whole, HPACK state is kept | `h2`; that they end in time: we | `a_frame_or_a_section_that_does_not_end_is_waited_for_as_long_as_a_head` |
//! | 5.1, 5.1.1 | states and numbers of streams | `h2` | the library's |
//! | 5.1.2 | no more streams than allowed | `h2`, by our number | `streams_beyond_the_limit_are_refused` |
//! | 5.2, 6.9 | no byte beyond a window, windows opened again | `h2` counts, we wait and release | `large_bodies_pass_through_their_windows`, `a_client_that_takes_nothing_is_not_waited_for` |
//! | 5.4.2 | a reset is not answered by one; what was reset is left | `h2`; the shard's work: we | `a_request_that_is_given_up_is_given_up_at_the_shard` |
//! | 6.8 | GOAWAY names the last stream; those before it end | we say when, `h2` how | `a_connection_is_worn_out_in_order`, `a_drain_tells_clients_and_lets_their_requests_end` |
//! | 8.1 | an answer cut short does not end its stream | we: INTERNAL_ERROR | `an_answer_that_breaks_is_reset` |
//! | 8.1 | a whole answer before the request's end: NO_ERROR | `h2` | `a_body_that_is_not_wanted_is_not_waited_for` |
//! | 8.1 | interim answers before the final one; trailers end a stream | we | `trailers_and_interim_answers_pass`, `sound_trailers_of_an_answer_end_it`, `a_client_that_waits_is_told_to_send` |
//! | 8.1.1 | malformed requests are not forwarded; content is as long as announced | `h2` and we | `a_malformed_request_goes_no_further` |
//! | 8.2.1 | names in lower case, no control characters | `h2` | `a_malformed_request_goes_no_further` |
//! | 8.2.1 | no white space around a value | we | `a_malformed_request_goes_no_further`, `white_space_around_a_value_is_refused` |
//! | 8.2.2 | no fields of the connection in requests | `h2` | `a_malformed_request_goes_no_further` |
//! | 8.2.2 | an intermediary takes them out of answers | we | `a_request_reaches_its_shard_as_one_of_http1` |
//! | 8.2.3 | cookies in pieces become one field | we | `cookies_in_pieces_are_one_field` |
//! | 8.3 | pseudo-fields first, known, once | `h2` | `a_malformed_request_goes_no_further` |
//! | 8.3.1 | `:authority` and `Host` agree, no user information; `:path` is a path or `*`; `:scheme` is http or https | we | `a_malformed_request_goes_no_further`, `authority_and_host_must_agree` |
//! | 8.3.1 | `:path` has no fragment, which the library would cut off | we, see [`paths`] | `a_path_with_a_fragment_is_refused_and_not_cut`, `a_hash_is_found_however_it_is_written` |
//! | 8.5 | CONNECT | we refuse it | `connect_is_refused_and_the_server_itself_can_be_asked` |
//! | 10.3 | nothing that HTTP/1.1 would read differently is forwarded | the judge of HTTP/1.1 | `what_only_ringway_may_say_is_seen_by_the_same_judge` |
//! | 10.5 | excessive load ends in ENHANCE_YOUR_CALM | `h2`: CONTINUATION, header lists, DATA without content, resets before a stream is taken up; we: the rest, in [`frames`] | `each_flood_ends_its_connection_and_no_other`, `rapid_reset_is_bounded_and_reaches_no_shard_for_long`, `tiny_frames_are_not_collected_without_end` |
//!
//! Invariants:
//! 1. A stream's task is done with it when its client gives the stream up, wherever it waits for a
//!    shard.
//! 2. For each stream at most one window of content is held in either direction.
//! 3. In one turn the library is given a bounded number of streams, frames and bytes, however many
//!    came; then others have their turn (`no_turn_is_given_more_frames_than_its_ration`).
//!
//! Known departures, all of them the library's: pseudo-fields among trailers are dropped where the
//! request should be malformed (8.1), and a `:path` that is missing beside a `Host` without
//! `:authority` is read as `/` (8.3.1). A field section over the limit is answered 431 by the library, so it is neither counted nor logged.

mod answer;
mod body;
mod connection;
mod frames;
mod io;
mod paths;
mod request;
mod sender;
mod servers;
mod stream;

pub(super) use connection::serve;
pub(super) use frames::PREFACE;
pub(super) use servers::StreamServers;
