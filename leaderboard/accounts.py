"""Accounts: which of allauth's pages this site has, and who may ask for each.

They are listed one by one, so that no release of allauth brings a page that nobody looked at.
"""

from allauth.account import views as account
from allauth.mfa.base import views as mfa
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from allauth.socialaccount import views as social
from allauth.socialaccount.providers.github import views as github
from django.conf import settings
from django.urls import path

from leaderboard import tokens
from leaderboard.access import Rule, access
from leaderboard.throttling import limited

everybody, signed_in = access(Rule.PUBLIC), access(Rule.SIGNED_IN)

urlpatterns = [
    path("login/", everybody(limited("sign-in")(account.login)), name="account_login"),
    path("logout/", everybody(account.logout), name="account_logout"),
    path("signup/", everybody(limited("sign-up")(account.signup)), name="account_signup"),
    path("inactive/", everybody(account.account_inactive), name="account_inactive"),
    path("reauthenticate/", signed_in(account.reauthenticate), name="account_reauthenticate"),
    path("email/", signed_in(limited("mail")(account.email)), name="account_email"),
    path("email/sent/", everybody(account.email_verification_sent), name="account_email_verification_sent"),
    path("email/<str:key>/", everybody(account.confirm_email), name="account_confirm_email"),
    path("password/", signed_in(account.password_change), name="account_change_password"),
    path("password/set/", signed_in(account.password_set), name="account_set_password"),
    path("password/reset/", everybody(limited("mail")(account.password_reset)), name="account_reset_password"),
    path("password/reset/sent/", everybody(account.password_reset_done), name="account_reset_password_done"),
    path(
        "password/reset/<slug:uidb36>/<str:key>/",
        everybody(account.password_reset_from_key),
        name="account_reset_password_from_key",
    ),
    path(
        "password/reset/done/",
        everybody(account.password_reset_from_key_done),
        name="account_reset_password_from_key_done",
    ),
    path("mfa/", signed_in(mfa.index), name="mfa_index"),
    path("mfa/authenticate/", everybody(limited("sign-in")(mfa.authenticate)), name="mfa_authenticate"),
    path("mfa/reauthenticate/", signed_in(mfa.reauthenticate), name="mfa_reauthenticate"),
    path("mfa/totp/activate/", signed_in(totp.activate_totp), name="mfa_activate_totp"),
    path("mfa/totp/deactivate/", signed_in(totp.deactivate_totp), name="mfa_deactivate_totp"),
    path("mfa/codes/", signed_in(recovery_codes.view_recovery_codes), name="mfa_view_recovery_codes"),
    path("mfa/codes/new/", signed_in(recovery_codes.generate_recovery_codes), name="mfa_generate_recovery_codes"),
    path("mfa/codes/file/", signed_in(recovery_codes.download_recovery_codes), name="mfa_download_recovery_codes"),
    path("tokens/", tokens.tokens, name="tokens"),
    path("tokens/<int:pk>/revoke/", tokens.revoke, name="token-revoke"),
    path("social/", signed_in(social.connections), name="socialaccount_connections"),
    path("social/signup/", everybody(limited("sign-up")(social.signup)), name="socialaccount_signup"),
    path("social/cancelled/", everybody(social.login_cancelled), name="socialaccount_login_cancelled"),
    path("social/error/", everybody(social.login_error), name="socialaccount_login_error"),
]
if settings.SOCIALACCOUNT_PROVIDERS:
    urlpatterns += [
        path("github/login/", everybody(github.oauth2_login), name="github_login"),
        path("github/login/callback/", everybody(github.oauth2_callback), name="github_callback"),
    ]
