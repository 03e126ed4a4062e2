"""Each security requirement has tests that exist; what it requires stands beside it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

ROWS: dict[str, tuple[str, list[str]]] = {
    "S1": (
        "untrusted images: three formats, the first frame, decoded in a disposable process",
        [
            "test_images.py::test_open_image__a_format_that_is_not_ours_is_refused_whatever_its_name",
            "test_images.py::test_open_image__half_a_jpeg_that_verify_passes_is_refused",
            "test_decoding.py::test_decode__a_child_that_dies_on_an_image_is_an_error_and_the_next_image_is_fine",
            "test_decoding.py::test_decode__memory_is_limited_in_the_child_only",
            "test_decoding.py::test_decode__the_child_is_confined",
            "security/test_uploads.py::test_formats__that_are_not_ours_are_refused_over_http",
        ],
    ),
    "S2": (
        "pixels are capped from the header: the bomb set",
        [
            "test_images.py::test_open_image__more_pixels_than_allowed_are_refused_from_the_header",
            "test_images.py::test_open_image__a_bomb_costs_less_than_a_second_and_200_megabytes",
        ],
    ),
    "S3": (
        "one upload, of a bounded size, left as soon as it is too large",
        [
            "api/test_search.py::test_bad_upload__is_a_problem",
            "api/test_search.py::test_large_json__is_not_read_whole",
            "test_views.py::test_photo__101_files_are_refused",
            "security/test_uploads.py::test_upload__is_left_as_soon_as_it_is_too_large",
            "security/test_uploads.py::test_upload__without_a_length_is_no_fault",
        ],
    ),
    "S4": (
        "nothing of a photo is stored or served",
        [
            "api/test_whole_query.py::test_photo__nothing_of_it_is_kept",
            "security/test_uploads.py::test_hundred_photos__leave_no_file_key_or_row",
        ],
    ),
    "S5": (
        "pixels are right whatever the encoding",
        [
            "test_images.py::test_to_pixels__one_picture_in_all_encodings_gives_the_same_pixels",
            "test_images.py::test_open_image__exif_orientation_is_obeyed",
            "test_images.py::test_to_pixels__transparency_is_white_not_black",
        ],
    ),
    "S6": (
        "web addresses of photos: off, then public hosts only",
        [
            "test_image_urls.py::test_off__by_default",
            "test_image_urls.py::test_address__that_is_not_public_is_never_connected_to",
            "test_image_urls.py::test_redirect__to_what_is_not_public_is_not_followed",
            "test_image_urls.py::test_rebinding__the_address_that_was_checked_is_the_one_connected_to",
            "test_image_urls.py::test_bytes__are_counted_as_they_come_and_after_they_were_unpacked",
            "test_image_urls.py::test_time__a_host_that_drips_does_not_hold_the_visitor",
        ],
    ),
    "S7": (
        "checkpoints are no pickles, and are the files that they say they are",
        [
            "test_transfer.py::test_import__no_pickle_is_ever_loaded",
            "test_transfer.py::test_import__a_file_that_was_tampered_with_leaves_nothing",
            "test_transfer.py::test_import__what_is_no_plain_file_is_refused",
            "test_encoding.py::test_onnx_encoder__a_missing_or_altered_file_says_so",
        ],
    ),
    "S8": (
        "Celery takes JSON; embedded servers are for the demo",
        [
            "test_workers.py::test_worker__refuses_pickle_and_goes_on",
            "test_checks.py::test_deployment__celery_that_accepts_pickle",
        ],
    ),
    "S9": (
        "one visible_to, in the SQL; hidden and unknown answer alike",
        [
            "api/test_visibility.py::test_matrix__hits_totals_facets",
            "api/test_visibility.py::test_matrix__named_directly_it_answers_as_an_unknown_one",
            "api/test_visibility.py::test_matrix__suggestions_do_not_name_it",
            "api/test_algolia.py::test_hidden_product__is_in_no_hit_count_or_facet_and_answers_as_an_unknown_one",
            "test_views.py::test_hidden_and_unknown_product__the_pages_differ_in_nothing",
        ],
    ),
    "S10": (
        "bounded work",
        [
            "api/test_search.py::test_bad_json__is_a_problem_that_names_the_field",
            "api/test_whole_query.py::test_nan__is_not_json",
            "test_encoding.py::test_queries__beyond_the_concurrency_wait_and_are_then_turned_away",
            "test_deadlines.py::*",
            "security/test_uploads.py::test_two_hundred_uploads_at_once__are_answered_or_told_to_wait",
        ],
    ),
    "S11": (
        "throttles that count exactly",
        [
            "api/test_search.py::test_throttle__counts_exactly_when_fifty_come_at_once",
            "api/test_search.py::test_throttle__is_a_429_with_the_wait_and_scopes_are_apart",
            "api/test_algolia.py::test_throttle__counts_every_query_of_a_request",
        ],
    ),
    "S12": (
        "state changes are POST, CSRF-checked and permission-checked",
        [
            "security/test_changing.py::test_anonymous__no_request_to_any_address_changes_anything",
            "security/test_changing.py::test_signed_in__every_post_needs_the_token",
            "api/test_visibility.py::test_staff_endpoints__need_their_own_permission",
        ],
    ),
    "S13": (
        "only parameters in SQL",
        [
            "api/test_search.py::test_hostile_strings__in_every_parameter",
            "security/test_changing.py::test_hostile_strings__in_every_part_of_every_request",
            "test_searching.py::test_text_without_checkpoint__hostile_words_are_no_error",
        ],
    ),
    "S14": (
        "nothing inline; a strict content security policy",
        [
            "test_csp.py::test_policy__nothing_inline_and_nothing_from_elsewhere",
            "test_views.py::test_page__holds_nothing_inline",
            "test_views.py::test_hostile_strings__are_escaped_and_no_fault",
            "e2e/test_journey.py::*",
        ],
    ),
    "S15": (
        "what is remembered is nobody else's",
        ["api/test_visibility.py::test_two_visitors__taking_turns_never_see_what_the_other_may"],
    ),
    "S16": (
        "schemathesis finds no server error, answers conform",
        [
            "api/test_schemathesis.py::test_anonymous__every_answer_conforms",
            "api/test_schemathesis.py::test_staff__every_answer_conforms",
        ],
    ),
    "S18": (
        "a query photo stays in memory",
        ["security/test_uploads.py::test_hundred_photos__leave_no_file_key_or_row"],
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row__names_tests_that_exist(row: str) -> None:
    for name in ROWS[row][1]:
        path, _, function = name.partition("::")
        tree = ast.parse((TESTS / path).read_text())
        there = {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}
        tests = {each for each in there if each.startswith("test_")}
        assert tests if function == "*" else function in tests, name
