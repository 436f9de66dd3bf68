"""The addresses of the site."""

from django.urls import include, path

from leaderboard import board, views
from leaderboard.api import api

urlpatterns = [
    path("", board.board, name="board"),
    path("board.csv", board.board_csv, name="board-csv"),
    path("board.json", board.board_json, name="board-json"),
    path("figures/robust-loss-against-flatness.<str:kind>", board.figure, name="figure"),
    path("analysis/", views.analysis, name="analysis"),
    path("analysis/<slug:study>/<str:name>", views.analysis_file, name="analysis-file"),
    path("entries/<slug:slug>/", views.entry, name="entry"),
    path("protocols/", views.protocols, name="protocols"),
    path("reported/", views.reported, name="reported"),
    path("about/", views.about, name="about"),
    path("account/", include("leaderboard.accounts")),
    path("api/v1/", api.urls),
]
