"""Models and their versions. What is no model stands under ``-/``: a model may be called "register"."""

from django.urls import path

from apps.registry.web import compare, imports, model_page, models_page, promotions, register, version_page

app_name = "registry"
urlpatterns = [
    path("", models_page.models, name="models"),
    path("-/register/", register.register, name="register"),
    path("-/imports/", imports.imports, name="imports"),
    path("-/imports/<str:job_id>/", imports.import_job, name="import"),
    path("-/imports/<str:job_id>/progress/", imports.progress, name="import_progress"),
    path("-/imports/<str:job_id>/again/", imports.again, name="import_again"),
    path("-/imports/<str:job_id>/stop/", imports.stop, name="import_stop"),
    path("promotions/<str:request_id>/", promotions.promotion, name="promotion"),
    path("promotions/<str:request_id>/withdraw/", promotions.withdraw, name="promotion_withdraw"),
    path("<str:name>/", model_page.model, name="model"),
    path("<str:name>/describe/", model_page.describe, name="model_describe"),
    path("<str:name>/tag/", model_page.tag, name="model_tag"),
    path("<str:name>/alias/", model_page.alias, name="model_alias"),
    path("<str:name>/protect/", model_page.protect, name="model_protect"),
    path("<str:name>/delete/", model_page.delete, name="model_delete"),
    path("<str:name>/compare/", compare.compare, name="compare"),
    path("<str:name>/versions/<str:reference>/", version_page.version, name="version"),
    path("<str:name>/versions/<str:reference>/state/", version_page.state, name="version_state"),
    path("<str:name>/versions/<str:reference>/describe/", version_page.describe, name="version_describe"),
    path("<str:name>/versions/<str:reference>/card/", version_page.card, name="version_card"),
    path("<str:name>/versions/<str:reference>/stage/", version_page.stage, name="version_stage"),
    path("<str:name>/versions/<str:reference>/promote/", version_page.promote, name="version_promote"),
    path("<str:name>/versions/<str:reference>/tag/", version_page.tag, name="version_tag"),
    path("<str:name>/versions/<str:reference>/ingest/", version_page.ingest, name="version_ingest"),
    path("<str:name>/versions/<str:reference>/delete/", version_page.delete, name="version_delete"),
]
