CREATE TABLE reference_codes (
    code_system TEXT,
    code TEXT,
    display TEXT,
    valid_from DATE,
    valid_to DATE,
    PRIMARY KEY (code_system, code)
);
