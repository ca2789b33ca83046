import eu.europa.esig.dss.model.FileDocument;
import eu.europa.esig.dss.spi.DSSUtils;
import eu.europa.esig.dss.spi.validation.CommonCertificateVerifier;
import eu.europa.esig.dss.spi.x509.CommonTrustedCertificateSource;
import eu.europa.esig.dss.validation.SignedDocumentValidator;
import java.io.File;
import java.util.Arrays;

/** Arguments: a policy, trusted certificates with a comma between, containers. Prints a line a container. */
public class Validate {
    public static void main(String[] arguments) {
        var trusted = new CommonTrustedCertificateSource();
        for (var name : arguments[1].split(",")) {
            trusted.addCertificate(DSSUtils.loadCertificate(new File(name)));
        }
        for (var name : Arrays.copyOfRange(arguments, 2, arguments.length)) {
            var verifier = new CommonCertificateVerifier();
            verifier.setTrustedCertSources(trusted);
            var validator = SignedDocumentValidator.fromDocument(new FileDocument(name));
            validator.setCertificateVerifier(verifier);
            var report = validator.validateDocument(new File(arguments[0])).getSimpleReport();
            for (var id : report.getSignatureIdList()) {
                System.out.println(name + " " + report.getIndication(id) + " " + report.getSignatureFormat(id));
            }
        }
    }
}
