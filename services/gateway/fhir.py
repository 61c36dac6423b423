"""A finished analysis as a FHIR R4 Bundle (HL7 FHIR 4.0.1): one DiagnosticReport and its Observations.

`status` is *preliminary*: nobody qualified has looked at it. There is no patient in it, because the service knows none;
whoever files it adds the subject.
"""

from __future__ import annotations

import uuid
from typing import Any

from services.analysis.record import Analysis
from services.analysis.results import NetworkOpinion, Result
from services.gateway.guidance import BAND_LABELS, CLASS_LABELS, DISCLAIMER, guidance_for, is_malignant

#: Where this project's own codes are described; a URI that names, not an address that answers.
CODE_SYSTEM = "urn:lesionlens:codes"

#: ICD-10 (WHO, 2019) for the seven diagnoses. akiec is both L57.0 and C44/D04; the pre-malignant one names the class.
ICD10 = "http://hl7.org/fhir/sid/icd-10"
_ICD10_CODES = {
    "mel": "C43.9",
    "nv": "D22.9",
    "bcc": "C44.9",
    "akiec": "L57.0",
    "bkl": "L82",
    "df": "D23.9",
    "vasc": "D18.0",
}


def _category(code: str, display: str) -> list[dict[str, Any]]:
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return [{"coding": [{"system": system, "code": code, "display": display}]}]


_CATEGORY = _category("imaging", "Imaging")
#: For what a person told.
_SURVEY = _category("survey", "Survey")


def fhir_bundle(analysis: Analysis, result: Result) -> dict[str, Any]:
    """A Bundle of type *collection*; ids follow from the analysis' id, so that filing it twice changes nothing."""
    moment = (analysis.finished_at or analysis.updated_at).isoformat()
    age = [_age(analysis, result.without_age, moment)] if result.without_age is not None else []
    observations = [
        _malignancy(analysis, result, moment, age),
        *age,
        *(_network(analysis, opinion, moment) for opinion in result.networks),
        *(_diagnosis(analysis, name, probability, moment) for name, probability in result.classes),
    ]
    entries = [_report(analysis, result, observations, moment), *observations]
    return {
        "resourceType": "Bundle",
        "id": _id(analysis, "bundle"),
        "type": "collection",
        "timestamp": moment,
        "entry": [{"fullUrl": _urn(resource["id"]), "resource": resource} for resource in entries],
    }


def _report(analysis: Analysis, result: Result, observations: list[dict[str, Any]], moment: str) -> dict[str, Any]:
    guidance = guidance_for(result.band)
    return {
        "resourceType": "DiagnosticReport",
        "id": _id(analysis, "report"),
        "status": "preliminary",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "IMG"}]}],
        "code": _concept("lesion-analysis", "Automated analysis of a photographed skin lesion"),
        "effectiveDateTime": analysis.created_at.isoformat(),
        "issued": moment,
        "result": [{"reference": _urn(observation["id"])} for observation in observations],
        "conclusion": f"{BAND_LABELS[result.band]}. {guidance.headline}. {guidance.steps[0]} {DISCLAIMER}",
    }


def _malignancy(analysis: Analysis, result: Result, moment: str, derived_from: list[dict[str, Any]]) -> dict[str, Any]:
    known = {"derivedFrom": [{"reference": _urn(one["id"])} for one in derived_from]} if derived_from else {}
    return {
        **_observation(analysis, "malignancy", moment),
        "code": _concept("malignancy-probability", "Calibrated probability of malignancy"),
        "valueQuantity": _share(result.probability),
        "interpretation": [_concept(f"band-{result.band.value}", BAND_LABELS[result.band])],
        "method": {"text": f"LesionLens stack {result.model_version}"},
        "note": [{"text": DISCLAIMER}],
        **known,
    }


def _age(analysis: Analysis, without_age: float, moment: str) -> dict[str, Any]:
    """The person's age as it was told, which the probability counts in (LOINC 30525-0, UCUM years)."""
    return {
        **_observation(analysis, "age", moment),
        "category": _SURVEY,
        "code": {"coding": [{"system": "http://loinc.org", "code": "30525-0", "display": "Age"}], "text": "Age"},
        "valueQuantity": {
            "value": analysis.age_years,
            "unit": "years",
            "system": "http://unitsofmeasure.org",
            "code": "a",
        },
        "note": [{"text": f"As told by the sender. From the photograph alone the probability is {without_age:.4f}."}],
    }


def _network(analysis: Analysis, opinion: NetworkOpinion, moment: str) -> dict[str, Any]:
    return {
        **_observation(analysis, f"network-{opinion.name}", moment),
        "code": _concept("network-probability", "One network's probability of malignancy, not calibrated"),
        "valueQuantity": _share(opinion.probability),
        "method": {"text": f"{opinion.name} version {opinion.version}"},
    }


def _diagnosis(analysis: Analysis, name: str, probability: float, moment: str) -> dict[str, Any]:
    concept = _concept(f"diagnosis-{name}", f"Probability of {CLASS_LABELS[name]}")
    concept["coding"].append({"system": ICD10, "code": _ICD10_CODES[name]})
    return {
        **_observation(analysis, f"diagnosis-{name}", moment),
        "code": concept,
        "valueQuantity": _share(probability),
        "interpretation": [{"text": "malignant class" if is_malignant(name) else "benign class"}],
    }


def _observation(analysis: Analysis, what: str, moment: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": _id(analysis, what),
        "status": "preliminary",
        "category": _CATEGORY,
        "effectiveDateTime": analysis.created_at.isoformat(),
        "issued": moment,
    }


def _id(analysis: Analysis, what: str) -> str:
    return str(uuid.uuid5(analysis.id, what))


def _urn(resource_id: str) -> str:
    return f"urn:uuid:{resource_id}"


def _concept(code: str, text: str) -> dict[str, Any]:
    return {"coding": [{"system": CODE_SYSTEM, "code": code, "display": text}], "text": text}


def _share(probability: float) -> dict[str, Any]:
    # UCUM's "1" is a pure number.
    return {"value": round(probability, 6), "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}
