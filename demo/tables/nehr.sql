CREATE TABLE diagnoses (
    diagnosis_id BIGINT PRIMARY KEY,
    patient_id BIGINT,
    icd10_code TEXT,
    diagnosed_on DATE,
    severity TEXT,
    recorded_at TIMESTAMP
);

CREATE INDEX diagnoses_recorded_at ON diagnoses (recorded_at);
