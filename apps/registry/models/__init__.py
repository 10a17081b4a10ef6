"""Models, their immutable versions, the aliases that point at them, and who is told when they change."""

from __future__ import annotations

from apps.registry.domain.words import VersionStatus
from apps.registry.models.aliases import Alias, AliasMove, PromotionRequest, promotion_id
from apps.registry.models.artifacts import FormatRule, UploadArea, UploadedFile
from apps.registry.models.catalogue import Model, ModelTag, ModelVersion, VersionTag, model_id, version_id
from apps.registry.models.importing import ImportedModel, ImportJob, import_id
from apps.registry.models.webhooks import Webhook, WebhookDelivery, delivery_id, webhook_id

__all__ = [
    "Alias",
    "AliasMove",
    "FormatRule",
    "ImportJob",
    "ImportedModel",
    "Model",
    "ModelTag",
    "ModelVersion",
    "PromotionRequest",
    "UploadArea",
    "UploadedFile",
    "VersionStatus",
    "VersionTag",
    "Webhook",
    "WebhookDelivery",
    "delivery_id",
    "import_id",
    "model_id",
    "promotion_id",
    "version_id",
    "webhook_id",
]
