"""The addresses of the site."""

from django.urls import include, path

from leaderboard import (
    board,
    compare,
    curve_views,
    moderation_views,
    sharing,
    submit_views,
    training_views,
    views,
    watch_views,
)
from leaderboard.api import api

handler429 = "leaderboard.throttling.too_many"  # allauth's limits answer by it

urlpatterns = [
    path("", board.board, name="board"),
    path("board.csv", board.board_csv, name="board-csv"),
    path("board.json", board.board_json, name="board-json"),
    path("figures/robust-loss-against-flatness.<str:kind>", board.figure, name="figure"),
    path("analysis/", views.analysis, name="analysis"),
    path("analysis/<slug:study>/<str:name>", views.analysis_file, name="analysis-file"),
    path("entries/<slug:slug>/", views.entry, name="entry"),
    path("entries/<slug:slug>/training/<slug:figure>.<str:kind>", curve_views.entry_curves, name="entry-curves"),
    path("entries/<slug:slug>/badge.svg", sharing.badge, name="badge"),
    path("entries/<slug:slug>/cite.bib", sharing.citation, name="citation"),
    path("entries/<slug:slug>/object/", moderation_views.objection, name="object"),
    path("entries/<slug:slug>/objections.json", moderation_views.objections_json, name="objections-json"),
    path("feed.atom", sharing.feed, name="feed"),
    path("compare/", compare.compare, name="compare"),
    path("compare.csv", compare.compare_csv, name="compare-csv"),
    path("compare.json", compare.compare_json, name="compare-json"),
    path("figures/training/<slug:figure>.<str:kind>", curve_views.compared_curves, name="compared-curves"),
    path("figures/comparison.<str:kind>", compare.compare_figure, name="compare-figure"),
    path("submit/", submit_views.submit, name="submit"),
    path("submissions/<uuid:run_id>/", watch_views.submission, name="submission"),
    path("submissions/<uuid:run_id>/live", watch_views.submission_live, name="submission-live"),
    path("submissions/<uuid:run_id>/<slug:action>", watch_views.act, name="submission-act"),
    path("queue/", watch_views.queue, name="queue"),
    path("queue/live", watch_views.queue_live, name="queue-live"),
    path("queue.json", watch_views.queue_json, name="queue-json"),
    path("moderation/", moderation_views.moderation, name="moderation"),
    path("moderation/objections/<int:pk>/", moderation_views.answer, name="objection-answer"),
    path("moderation/rerun/<slug:name>/", moderation_views.rerun, name="rerun"),
    path("moderation/trail/", moderation_views.staff_acts, name="trail"),
    path("moderation/trail.json", moderation_views.staff_acts_json, name="trail-json"),
    path("train/", training_views.train, name="train"),
    path("train.json", training_views.train_json, name="train-json"),
    path("train/<slug:digest>/<int:seed>/cancel", training_views.cancel, name="train-cancel"),
    path("protocols/", views.protocols, name="protocols"),
    path("reported/", views.reported, name="reported"),
    path("about/", views.about, name="about"),
    path("account/", include("leaderboard.accounts")),
    path("api/v1/", api.urls),
]
