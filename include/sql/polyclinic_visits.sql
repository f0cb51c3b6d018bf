SELECT
    v.visit_id,
    v.patient_id,
    v.clinic_code,
    v.visit_date,
    v.visit_type,
    v.diagnosis_code,
    v.systolic_bp,
    v.fee,
    v.created_at,
    v.updated_at
FROM visits AS v
WHERE {{ window("v.updated_at") }}
