"""Django settings, declarative, from the typed environment; no per-environment branches."""

from __future__ import annotations

from controlplane.env import ROOT, database_settings, oidc_settings, read_env

ENV = read_env()

SECRET_KEY = ENV.secret_key
DEBUG = ENV.is_debug
ALLOWED_HOSTS = list(ENV.allowed_hosts)
CSRF_TRUSTED_ORIGINS = [ENV.base_url]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.mfa",
    "allauth.usersessions",
    "controlplane",
    "apps.kernel",
    "apps.audit",
    "apps.accounts",
    "apps.reviews",
    "apps.alerts",
    "apps.registry",
    "apps.targets",
    "apps.telemetry",
    "apps.slo",
    "apps.experiments",
    "apps.rollouts",
]

MIDDLEWARE = [
    "controlplane.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "controlplane.middleware.ContentSecurityPolicyMiddleware",
    # Outside everything that can fail, inside what every answer carries (request id, security headers). A limit on
    # requests that adds RateLimit headers and answers 429 as a page or text belongs right below it.
    "controlplane.middleware.ApiProblemMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "controlplane.limits.RateLimitMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "controlplane.limits.SessionLifeMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "controlplane.middleware.DomainErrorMiddleware",
]

ROOT_URLCONF = "controlplane.urls"
ASGI_APPLICATION = "controlplane.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "frontend" / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "controlplane.context.frame",
            ],
            "builtins": ["controlplane.templatetags.pilothouse"],
        },
    }
]

DATABASES = {"default": database_settings(ENV.database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": ENV.redis_url}}

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "accounts:sign_in"
LOGIN_REDIRECT_URL = "fleet"
LOGOUT_REDIRECT_URL = "accounts:sign_in"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600  # the absolute end; see PILOTHOUSE_SESSION_IDLE_SECONDS for the quiet one
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.is_https
SECURE_HSTS_SECONDS = 31_536_000 if ENV.is_https else 0
# Sending http to https is the proxy's (probes and agents stay inside by http); whether the operator's other subdomains
# have to follow, and whether browsers ship with the name, is not this program's to say.
SILENCED_SYSTEM_CHECKS = ["security.W008", "security.W005", "security.W021"]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

STATIC_URL = "/static/"
STATIC_ROOT = ENV.home / "static"
WHITENOISE_USE_FINDERS = DEBUG

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.accounts.api.authentication.TokenAuthentication",
        "apps.accounts.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["apps.accounts.api.permissions.DeclaredAction"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "controlplane.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,  # the media type is chosen by Accept; ?format= would be a parameter of no operation
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Pilothouse",
    "DESCRIPTION": "Registry, endpoints and rollouts of machine-learning models.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "controlplane.api_headers.headers_of_every_answer",
    ],
    # Names of value sets that several objects share; without these the generator numbers them.
    "ENUM_NAME_OVERRIDES": {
        "RoleEnum": "apps.accounts.api.shapes.ROLES",
        "EnvironmentEnum": "apps.accounts.api.shapes.PLACES",
        "AskedEnvironmentEnum": "apps.accounts.api.explain.ASKED_PLACES",
        "AccountKindEnum": "apps.accounts.api.shapes.ACCOUNT_KINDS",
        "ActorKindEnum": "apps.accounts.api.shapes.ACTOR_KINDS",
        "ObjectiveKindEnum": "apps.slo.api.bodies.KINDS",
        "ObjectiveScopeEnum": "apps.slo.api.bodies.SCOPES",
        "PolicyProfileEnum": "apps.slo.api.bodies.PROFILES",
        "ProfileEnum": "apps.rollouts.api.bodies.PROFILES",
        "OnExpiryEnum": "apps.rollouts.api.bodies.THEN",
        "SwitchEnum": "apps.alerts.api.channel_shapes.SWITCH",
        "ChannelKindEnum": "apps.alerts.api.channel_shapes.KINDS",
        "PhaseEnum": "apps.rollouts.api.shapes.PHASES",
        "SequencePhaseEnum": "apps.rollouts.api.sequence_shapes.SEQUENCE_PHASES",
        "AccessChangeEnum": "apps.accounts.api.explain.CHANGES",
    },
}

LOGGING_CONFIG = None

# Sign-in. There is no sign-up: accounts are made by an admin, by the first run, or by the identity provider.
ACCOUNT_ADAPTER = "apps.accounts.web.sign_in_hooks.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_EMAIL_NOTIFICATIONS = False
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": "30/m/ip,10/5m/key",
    "reauthenticate": "10/m/user",
}
SOCIALACCOUNT_ADAPTER = "apps.accounts.web.sign_in_hooks.SocialAdapter"
SOCIALACCOUNT_AUTO_SIGNUP = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False  # people are known by the provider's subject, never by an e-mail address
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_PROVIDERS = oidc_settings(ENV)
MFA_ADAPTER = "apps.accounts.web.sign_in_hooks.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "Pilothouse"
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = DEBUG
USERSESSIONS_TRACK_ACTIVITY = False

PILOTHOUSE_HOME = ENV.home
PILOTHOUSE_BASE_URL = ENV.base_url
PILOTHOUSE_INGEST_TOKEN = ENV.ingest_token
PILOTHOUSE_METRICS_TOKEN = ENV.metrics_token
PILOTHOUSE_AGENT_TOKEN_FILE = ENV.agent_token_file
PILOTHOUSE_ARTIFACT_ROOTS = ENV.artifact_roots
PILOTHOUSE_TOKEN_ROOTS = ENV.token_roots
PILOTHOUSE_KUBECONFIG_PROGRAMS = ENV.may_run_kubeconfig_programs
PILOTHOUSE_AGENT_PORT = ENV.agent_port
PILOTHOUSE_REDIS_URL = ENV.redis_url
PILOTHOUSE_VAULT_FILE = ENV.vault_file
PILOTHOUSE_AUDIT_KEYS = ENV.audit_keys
PILOTHOUSE_AUDIT_SINK = ENV.audit_sink
PILOTHOUSE_ARTIFACT_STORE = ENV.artifact_store
PILOTHOUSE_ARTIFACT_SOURCES = ENV.artifact_sources
PILOTHOUSE_OUTBOUND_ALLOW = ENV.outbound_allow
PILOTHOUSE_LIMITS = ENV.limits
PILOTHOUSE_KEY_MAX_DAYS = ENV.key_max_days
PILOTHOUSE_ALERT_REMIND_SECONDS = 60 * ENV.alert_remind_minutes
PILOTHOUSE_ALERT_REOPEN_SECONDS = 60 * ENV.alert_reopen_minutes
PILOTHOUSE_TELEMETRY_KEEP = ENV.telemetry_keep
PILOTHOUSE_INFERENCE_LOG = ENV.inference_log
PILOTHOUSE_OTLP_NAMES = ENV.otlp_names
PILOTHOUSE_OIDC_NAME = ENV.oidc.name if ENV.oidc else ""
PILOTHOUSE_SESSION_IDLE_SECONDS = 30 * 60
PILOTHOUSE_STEP_UP_SECONDS = 300
# 5 MB of plotly.min.js comes from its Python package, see controlplane/finders.py
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "controlplane.finders.PlotlyFinder",
]
STATICFILES_DIRS = [ROOT / "frontend" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
