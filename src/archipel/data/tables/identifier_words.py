"""Words by which columns are called that identify a person: English, German, French, Spanish, Italian, Dutch,
Portuguese, Polish and Swedish.

Each is written without capital letters, accents, spaces and signs. Some are a name as a whole, others may also stand
inside a longer one.
"""

from __future__ import annotations

NAME, BIRTH, INSURANCE = "a person's name", "a birth date", "an insurance or identity number"
EMAIL, PHONE, ADDRESS, ACCOUNT = "an e-mail address", "a telephone number", "a postal address", "a bank account"
CASE, EXAMINATION = "the number of a case or a record", "the number of an examination"
PHYSICIAN, SECOND_ID = "a physician's name", "another id of the patient"

WHOLE: dict[str, str] = {
    NAME: """name names fullname initials nom noms prenom prenoms nombre nombres apellido apellidos nome nomi cognome
        naam voornaam achternaam tussenvoegsel initialen sobrenome apelido apelidos vorname nachname familienname
        namen geburtsname maidenname nomjeunefille nomdenaissance patient patientname imie imiona nazwisko
        imieinazwisko namn fornamn efternamn""",
    BIRTH: """dob birth born birthday gebdat gebdatum gebdt datenais ddn fechanac fnac datanasc nascita nascimento
        geboren naissance nele nacimiento nasc dataur urodzony urodzenie fodd fodelse""",
    INSURANCE: """ssn nhs nhsno ahv avs avsnr navs nir insee secu numsecu dni nif nie nuss cip cpf sns utente kvnr
        kvnummer versnr svnr svnummer rvnr nino mbi niss bsn pesel nfz taxid steuerid personnr""",
    EMAIL: "mail emails correo courriel posta epost mejl",
    PHONE: """phone phones tel telefon telefone telefono telephone mobile handy natel fax gsm portable cellulare movil
        telemovel celular telefoon mobiltelefon cellphone komorka festnetz handynr mobilnr telnr""",
    ADDRESS: """address addresses addr adresse adressen anschrift street strasse str hausnummer plz postleitzahl zip
        zipcode postcode postalcode codepostal codigopostal codicepostale codpostal rue calle direccion indirizzo
        domicilio domicile adres straat endereco morada rua wohnort adress gata ulica postnummer postnr""",
    ACCOUNT: "iban accountnumber kontonummer",
    CASE: """mrn urn fallnr fallid aufnahmenr caseno caseid encounter encounterid hospitalid nhc
        nosologico prontuario csn""",
    EXAMINATION: "accession accessionid studyuid seriesuid auftragsnr untersuchungsnr befundnr orderid orderno",
    PHYSICIAN: """physician doctor arzt aerztin arztin hausaerztin zuweiser medecin medecintraitant medico huisarts
        lekarz lakare huslakare""",
}  # fmt: skip
"""What a column holds, and its names as a whole."""
INSIDE: dict[str, str] = {
    NAME: """firstname lastname surname familyname givenname middlename patientname nameofpatient patientenname vorname
        nachname familienname nomdefamille nomdupatient prenom apellido nombredelpaciente nombrepaciente cognome
        nomepaziente nomedelpaziente voornaam achternaam sobrenome nomedopaciente nomepaciente mothername mothersname
        fathername fathersname nazwisko efternamn fornamn patientnamn""",
    BIRTH: """birthdate dateofbirth birthday birthdt geburtsdat geburtstag datedenaissance datenaissance
        fechadenacimiento fechanacimiento datadinascita datanascita geboortedatum datadenascimento datanascimento
        datadenacimento datenaiss fechanacim geboortedag dataurodzenia fodelsedatum fodelsedag""",
    INSURANCE: """socialsecurity insurancen insuranceid healthcaren healthcardn nationalid passport nhsnum ahvn avsn
        versichertenn versicherungsn krankenkassenn sozialversicherungsn numerodesecu numerosecu securitesociale
        numeroavs numeronir codicefiscale fiscalcode seguridadsocial numeroseguro tarjetasanitaria tesserasanitaria
        numeroassicura burgerservicen verzekeringsn rijksregistern numerodeutente numeroutente numeroseguranca
        cartaodesaude personnummer samordningsn numerpesel ubezpieczenia""",
    EMAIL: "emailaddress emailadres mailadres adressemail correoelectronico indirizzoemail enderecodeemail adresemail",
    PHONE: """phonenumber telephonenumber telefonnummer telefonnr handynummer mobilnummer mobilenumber mobilephone
        cellphone rufnummer numerodetelephone numerotelefon numerodetelefon telefoonnummer mobielnummer numerodecelular
        numerocellulare numertelefonu nrtelefonu""",
    ADDRESS: """homeaddress streetaddress postaladdress wohnadresse postadresse adressepostale codigopostal huisnummer
        postleitzahl kodpocztowy zamieszkania gatuadress hemadress""",
    CASE: """fallnummer aufnahmenummer behandlungsfall casenumber admissionnum admissionnr admissionid encounternum
        hospitalnum medicalrecordn recordnumber numerodedossier numerodossier numdossier numerodesejour
        numerosejour numsejour historiaclinica numerohistoria numeroepisodio numerodeepisodio
        cartellaclinica numerocartella numeronosologico opnamenummer ziekenhuisnummer dossiernummer
        numerodeprocesso numerodoprocesso numeroprocesso processoclinico numerodoatendimento historiichoroby
        ksiegaglowna journalnummer vardtillfalle""",
    EXAMINATION: """accessionnum accessionno accessionnr studyinstance seriesinstance sopinstance instanceuid
        untersuchungsnummer auftragsnummer befundnummer placerorder fillerorder ordernumber numerodexamen numeroexamen
        numerodesolicitud onderzoeksnummer numerobadania numerbadania undersokningsn remissnummer""",
    PHYSICIAN: """hausarzt referringphysician referringdoctor familyphysician familydoctor generalpractitioner
        attendingphysician performingphysician physicianname doctorname zuweisenderarzt behandelnderarzt arztname
        medecintraitant medecinreferent medicodecabecera medicocabecera medicodefamilia medicodifamiglia medicocurante
        medicodibase naamhuisarts lekarzrodzinny lekarzprowadzacy huslakare""",
}  # fmt: skip
"""What a column holds, and words of it."""
OF_A_PERSON = frozenset(
    ("patient", "pat", "patienten", "subject", "participant", "person", "contact", "kontakt", "paciente", "paziente",
     "pacjent", "gp", "mother", "father")
)  # fmt: skip
"""Words beside which a word of ``WHOLE`` identifies too: ``patient phone``."""
ID_NAMES = (
    *("subject", "subjectid", "participantid", "participant", "patientid", "patient", "ptid", "id"),
    *("pid", "patid", "patientenid", "patientnumber", "patientno", "patientnr", "patientennr", "patientennummer"),
    *("patientnummer", "patnr", "probandenid", "probandennummer", "idpatient", "numeropatient", "idpaciente"),
    *("pacienteid", "idpaziente", "pazienteid", "numeropaciente", "numeropaziente", "idpacjenta", "numerpacjenta"),
)
"""What columns of patients' ids are usually called, the likeliest first."""
