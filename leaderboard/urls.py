"""The addresses of the site."""

from django.urls import include, path

from leaderboard import views
from leaderboard.api import api

urlpatterns = [
    path("", views.board, name="board"),
    path("board.csv", views.board_csv, name="board-csv"),
    path("figures/robust-loss-against-flatness.<str:kind>", views.figure, name="figure"),
    path("analysis/", views.analysis, name="analysis"),
    path("analysis/<slug:study>/<str:name>", views.analysis_file, name="analysis-file"),
    path("entries/<slug:slug>/", views.entry, name="entry"),
    path("protocols/", views.protocols, name="protocols"),
    path("reported/", views.reported, name="reported"),
    path("about/", views.about, name="about"),
    path("account/", include("leaderboard.accounts")),
    path("api/v1/", api.urls),
]
