"""The registry's part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.registry.api import aliases, notes, tags, versions, views
from apps.registry.api.artifacts_urls import v1

urlpatterns = [
    path("models", views.ModelsView.as_view()),
    path("models/<word:model_name>", views.ModelView.as_view()),
    path("models/<word:model_name>/tags/<path:key>", tags.ModelTagView.as_view()),
    path("models/<word:model_name>/compare", versions.CompareView.as_view()),
    path("versions", versions.FoundVersionsView.as_view()),
    path("models/<word:model_name>/versions", versions.VersionsView.as_view()),
    path("models/<word:model_name>/versions/<word:version>", versions.VersionView.as_view()),
    path("models/<word:model_name>/versions/<word:version>/stage", versions.StageView.as_view()),
    path("models/<word:model_name>/versions/<word:version>/tags/<path:key>", tags.VersionTagView.as_view()),
    path("models/<word:model_name>/versions/<word:version>/card", notes.CardView.as_view()),
    path("models/<word:model_name>/protected-aliases", notes.ProtectedAliasesView.as_view()),
    path("models/<word:model_name>/aliases/<word:alias>", aliases.AliasView.as_view()),
    path("models/<word:model_name>/aliases/<word:alias>/moves", aliases.AliasMovesView.as_view()),
    path("promotions", aliases.PromotionsView.as_view()),
    path("promotions/<name:promotion_id>", aliases.PromotionView.as_view()),
    path("promotions/<name:promotion_id>/withdraw", aliases.PromotionWithdrawView.as_view()),
    *v1,
]
